"""The images: what is in them, how large they are, whose they run as."""

import pytest

from bridge.version import __version__
from tests.compose.stack import docker, inspect

#: Bytes that Megaphone's image may have above its base.
MOST = 120_000_000

BASE = "debian:bookworm-slim"


def inside(image, command):
    return docker("run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", command)


def test_megaphones_image_is_small(images):
    assert 0 < inspect(images.megaphone)["Size"] - inspect(BASE)["Size"] < MOST


@pytest.mark.parametrize("image", ["megaphone", "ejabberd"])
def test_it_says_what_it_is_and_runs_as_nobody_else(images, image):
    config = inspect(getattr(images, image))["Config"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert {"title", "description", "licenses", "revision", "created"} <= {
        label.removeprefix("org.opencontainers.image.") for label in labels
    }
    user, group = config["User"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert config["Healthcheck"]["StartPeriod"] > 0


def test_megaphones_image_has_the_lock_and_no_installer(images, root):
    shown = inside(
        images.megaphone,
        "python -c 'from importlib.metadata import distributions as d;"
        'print(*sorted(f"{p.name.lower()}=={p.version}" for p in d()), sep="\\n")\'',
    )
    lock = (root / "requirements/runtime.txt").read_text()
    installed = {line.replace("_", "-") for line in shown.splitlines()}
    locked = {
        line.split()[0]
        for line in lock.splitlines()
        if "==" in line and not line.startswith(" ") and "win32" not in line
    }
    assert installed == locked | {f"megaphone=={__version__}"}
    assert inside(images.megaphone, "command -v pip gcc git || true") == ""


def test_ejabberds_image_carries_nothing_that_is_secret_and_the_same_for_all(images):
    shown = inside(
        images.ejabberd,
        "ls -A /var/lib/ejabberd /var/log/ejabberd; ls /etc/ejabberd;"
        " grep -rl 'PRIVATE KEY' /etc/ejabberd /etc/ssl/private || true",
    )
    assert ".erlang.cookie" not in shown
    assert "ejabberd.pem" not in shown
    assert "PRIVATE KEY" not in shown
    assert "/etc/ssl" not in shown
