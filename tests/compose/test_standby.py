"""A second sidecar, by `--scale megaphone=2`: one works, one stands by."""

import json
import time

import pytest

from tests.compose.stack import docker, wait_until
from tests.compose.test_stack import TAKEOVER, get, prometheus


@pytest.fixture
def two(stack):
    """The stack with two sidecars, and as it was afterwards."""
    scaled = stack.with_files("docker/scale.override.yml")
    scaled.up("--scale", "megaphone=2")
    try:
        yield scaled
    finally:
        # Whoever scales down leaves the volume without a name.
        docker("rm", "-f", "-v", scaled.container("megaphone", 2))
        stack.up()
        wait_until(stack.active, 30, "the sidecar is active")


def sidecar(stack, index):
    return (json.loads(get(stack, "/v1/status", index)[1]).get("bridge") or {}).get("sidecar") or {}


def test_the_one_that_stands_by_takes_over(two):
    states = {sidecar(two, index)["state"]: index for index in (1, 2)}
    assert set(states) == {"active", "standby"}
    active, standby = states["active"], states["standby"]
    assert get(two, "/readyz", standby) == (200, "standing by\n")
    identities = {sidecar(two, index)["identity"] for index in (1, 2)}
    assert len(identities) == 2

    docker("kill", two.container("megaphone", active))
    begin = time.monotonic()
    wait_until(
        lambda: sidecar(two, standby)["state"] == "active",
        TAKEOVER,
        lambda: two.logs("megaphone", standby)[-2000:],
    )
    assert time.monotonic() - begin < TAKEOVER
    assert two.megaphone("broadcast", "Hello {{ user }}", index=standby).returncode == 0

    # The other comes back, and stands by from now on.
    two.up("--scale", "megaphone=2")
    wait_until(lambda: sidecar(two, active)["state"] == "standby", 30, "it stands by")
    watching = prometheus(two)
    wait_until(
        lambda: watching.numbers('up{job="megaphone"}') == [1.0, 1.0],
        60,
        lambda: watching.numbers('up{job="megaphone"}'),
    )
    # No alert for the one that has no turn.
    wait_until(
        lambda: sorted(watching.numbers("megaphone_port_standing_by")) == [0.0, 1.0],
        40,
        lambda: watching.ask("query", query="megaphone_port_standing_by"),
    )
