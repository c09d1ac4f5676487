import asyncio

import pytest

from erlang_port.otp import supervisor
from erlang_port.otp.coroutine_child import coroutine_child
from erlang_port.otp.supervisor import Flags, Tree
from erlang_port.transports.fds import Disconnected
from metrics.capacity import Usage
from metrics.headroom import Headroom, observation
from metrics.node import NodeCollector
from metrics.registry import new_registry
from tests.metrics.answers import answer


class Node:
    """A node that answers with so many sessions, one number after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.now = 0.0
        self.asked_often = asyncio.Event()
        registry = self.registry = new_registry()
        self.headroom = Headroom(registry, NodeCollector(registry, self.call), lambda: self.now)

    async def call(self, _name, _request, _timeout):
        self.now += 10.0
        if len(self.answers) == 1:
            self.asked_often.set()
        given = self.answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    async def observe_all(self):
        while self.answers:
            await self.headroom.observe()

    def capacity(self, resource):
        return self.registry.get_sample_value("megaphone_capacity_sessions", {"resource": resource})


def test_what_an_answer_says_of_the_resources():
    seen = observation(answer(10_000), 7.0)
    assert (seen.time, seen.sessions) == (7.0, 10_000)
    assert seen.allocated == 110_000_000
    assert seen.usage == {
        "processes": Usage(20_300, 262_144),
        "ports": Usage(10_020, 65_536),
        "file_descriptors": Usage(10_040, 1_048_576),
        "memory": Usage(156_000_000, 16_090_000_000),
        "cpu": Usage(0.2, 2),
    }


def test_a_control_group_may_grant_less_than_the_schedulers_could_use():
    assert observation(answer(10_000, system_cpus=0.5), 0.0).usage["cpu"] == Usage(0.2, 0.5)


@pytest.mark.parametrize(
    ("missing", "resource"),
    [
        ("vm_ports_limit", "ports"),
        ("vm_resident_memory_bytes", "memory"),
        ("system_memory_available_bytes", "memory"),
        ("vm_scheduler_utilization_ratio", "cpu"),
        ("vm_schedulers_online", "cpu"),
    ],
)
@pytest.mark.parametrize("value", [None, b"something else"])
def test_what_the_node_does_not_tell_has_no_usage(missing, resource, value):
    seen = observation(answer(10_000, **{missing: value}), 0.0)
    assert resource not in seen.usage
    assert len(seen.usage) == 4


def test_sessions_that_are_not_known_yet_are_not_none():
    assert observation({**answer(10), b"sessions": []}, 0.0) is None


def test_without_the_sessions_there_is_no_observation():
    assert observation({b"vm_processes": 300, b"vm_processes_limit": 262_144}, 0.0) is None


async def test_the_metric_has_the_estimate_of_each_resource():
    node = Node(*(answer(sessions) for sessions in range(0, 10_000, 500)))
    await node.observe_all()
    assert node.capacity("ports") == pytest.approx(0.95 * 65_536 - 20, abs=1)
    assert node.capacity("processes") == pytest.approx((0.95 * 262_144 - 300) / 2, abs=1)
    assert node.capacity("cpu") == pytest.approx(80_000, abs=1)
    assert node.capacity("memory") > 2_000_000
    assert [one.resource for one in node.headroom.estimates()][:2] == ["ports", "cpu"]


async def test_a_node_that_does_not_answer_has_no_estimate_and_what_was_seen_counts_later():
    growth = [answer(sessions) for sessions in range(0, 10_000, 500)]
    node = Node(*growth)
    assert node.headroom.estimates() is None
    await node.observe_all()
    node.answers = [Disconnected("gone")]
    await node.observe_all()
    assert node.capacity("ports") is None
    assert node.headroom.estimates() is None
    node.answers = [answer(9500)]
    await node.observe_all()
    assert node.headroom.estimates()[0].method == "trend"


async def test_an_answer_without_the_sessions_has_no_estimate():
    node = Node(*(answer(sessions) for sessions in range(0, 10_000, 500)))
    await node.observe_all()
    node.answers = [{b"node_uptime_seconds": 200.0}]
    await node.observe_all()
    assert node.headroom.estimates() is None
    assert node.capacity("ports") is None


async def test_a_node_that_was_started_again_is_observed_anew():
    node = Node(*(answer(sessions) for sessions in range(0, 10_000, 500)))
    await node.observe_all()
    node.answers = [answer(100, uptime=3.0)]
    await node.observe_all()
    assert {one.method for one in node.headroom.estimates()} == {"average"}


async def test_as_a_child_it_observes_again_and_again(monkeypatch):
    monkeypatch.setattr("metrics.headroom.INTERVAL", 0)
    node = Node(*(answer(sessions) for sessions in range(0, 1000, 100)))
    child = coroutine_child("headroom", node.headroom.run)
    top = await supervisor.start(Tree("top", Flags(), [child]))
    async with asyncio.timeout(5):
        await node.asked_often.wait()
    assert node.headroom.estimates()[0].method == "trend"
    top.exit("shutdown")
