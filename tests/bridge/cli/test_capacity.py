from __future__ import annotations

import json

import pytest

from bridge.cli.capacity import REMEDIES, quantity
from bridge.cli.errors import ExitStatus
from metrics.capacity import USABLE, Estimate


def estimate(resource, capacity, cost, method="trend"):
    return Estimate(
        resource=resource,
        sessions=12_345,
        used=1.5e9,
        limit=16e9,
        usable=15.2e9,
        cost=cost,
        capacity=capacity,
        low=0.9 * capacity,
        high=1.1 * capacity if method == "trend" else None,
        method=method,
    )._asdict()


def document(estimates):
    return {"bridge": {"version": "0.1.0", "capacity": estimates}}


def test_each_resource_has_a_row_and_the_first_to_end_a_remedy(node, run):
    estimates = [estimate("memory", 2_075_757, 6600.0), estimate("ports", 3e6, 1.0)]
    node.answers("megaphone_status", document(estimates))
    status, output, _ = run("capacity")
    assert status == ExitStatus.OK
    for fact in ("12,345 sessions", "memory", "15.2 GB", "6.6 kB", "2,080,000", "ports"):
        assert fact in output
    assert "Memory ends first, at about 2,080,000 sessions" in output
    assert REMEDIES["memory"].split(",")[0] in output
    assert "*" not in output


def test_an_average_says_that_it_is_one(node, run):
    node.answers("megaphone_status", document([estimate("memory", 1e6, 9000.0, "average")]))
    _, output, _ = run("capacity")
    assert "9.0 kB*" in output
    assert "900,000 and more" in output
    assert "* the average" in output


def test_json_is_the_estimates(node, run):
    estimates = [estimate("memory", 1e6, 6600.0)]
    node.answers("megaphone_status", document(estimates))
    status, output, _ = run("capacity", "--json")
    assert (status, json.loads(output)) == (ExitStatus.OK, {"capacity": estimates})


@pytest.mark.parametrize("nothing", [None, []])
def test_without_an_estimate_it_says_so(node, run, nothing):
    node.answers("megaphone_status", document(nothing))
    status, output, _ = run("capacity")
    assert status == ExitStatus.OK
    assert "Nothing is known yet" in output
    _, output, _ = run("capacity", "--json")
    assert json.loads(output) == {"capacity": []}


def test_without_the_port_program_there_is_none(node, run):
    node.answers("megaphone_status", {"bridge": None, "bridge_error": "disconnected"})
    status, _, errors = run("capacity")
    assert status == ExitStatus.PORT_PROGRAM_DOWN
    assert "disconnected" in errors


def test_there_is_a_remedy_for_each_resource():
    assert REMEDIES.keys() == USABLE.keys()


@pytest.mark.parametrize(
    ("resource", "value", "text"),
    [
        ("memory", 512.0, "512 B"),
        ("memory", 6600.0, "6.6 kB"),
        ("memory", 15.2e9, "15.2 GB"),
        ("cpu", 1.6, "1.6 cores"),
        ("cpu", 0.00002, "20.0 millionths of a core"),
        ("ports", 62_259.2, "62,259"),
        ("processes", 2.0, "2"),
    ],
)
def test_quantities(resource, value, text):
    assert quantity(resource, value) == text
