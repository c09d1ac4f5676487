from typing import Any

from metrics.registry import new_registry
from metrics.runtime import RuntimeCollector, restarts_by_supervisor


def node(name: str, kind: str, restarts: int, *children: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "type": kind, "restarts": restarts, "children": list(children)}


TREE = node(
    "megaphone",
    "supervisor",
    0,
    node("port", "worker", 0),
    node(
        "workers",
        "supervisor",
        1,
        node("worker-0", "worker", 2, node("process 17", "os_process", 5)),
        node("worker-1", "worker", 0, node("process 18", "os_process", 1)),
    ),
    node("http", "worker", 3),
    node("servers", "supervisor", 0),
)


def test_restarts_are_those_of_the_supervisor_that_started_again() -> None:
    assert restarts_by_supervisor(TREE) == {"megaphone": 4, "workers": 8, "servers": 0}


def test_before_there_is_a_tree_there_are_no_restarts_to_show() -> None:
    registry = new_registry()
    tree: list[dict[str, Any] | None] = [None]
    RuntimeCollector(registry, lambda: 12, lambda: tree[0])
    name, labels = "megaphone_supervisor_restarts_total", {"supervisor": "workers"}
    assert registry.get_sample_value("megaphone_otp_processes") == 12
    assert registry.get_sample_value(name, labels) is None
    tree[0] = TREE
    assert registry.get_sample_value(name, labels) == 8
