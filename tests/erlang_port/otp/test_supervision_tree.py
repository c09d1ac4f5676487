from erlang_port.otp import supervisor
from erlang_port.otp.supervision_tree import supervision_tree
from erlang_port.otp.supervisor import ChildSpec, Flags, Tree
from tests.erlang_port.otp.processes import Probe, as_process, exit_of


def flat(tree):
    return [
        (tree["id"], tree["type"], tree["state"], tree["restarts"], tree["uptime_seconds"] is None),
        *(row for child in tree["children"] for row in flat(child)),
    ]


@as_process
async def test_a_tree():
    probe = Probe()
    inner = Tree("inner", Flags(), [probe.child(b"x"), probe.child(("y", 1))])
    children = [
        probe.child("a"),
        ChildSpec("inner", supervisor.start_link, (inner,), type="supervisor"),
        probe.child("z"),
    ]
    top = await supervisor.start_link(Tree("top", Flags(), children))
    probe.end("a")
    await probe.until("-a", "+a")
    await supervisor.terminate_child(top, "z")
    below = {"a": [{**supervision_tree(top), "id": "kept", "children": []}]}
    assert flat(supervision_tree(top, below)) == [
        ("top", "supervisor", "running", 0, False),
        ("a", "worker", "running", 1, False),
        ("kept", "supervisor", "running", 0, False),
        ("inner", "supervisor", "running", 0, False),
        ("x", "worker", "running", 0, False),
        ("('y', 1)", "worker", "running", 0, False),
        ("z", "worker", "stopped", 0, True),
    ]
    top.exit("shutdown")
    await exit_of(top)
    assert flat(supervision_tree(top)) == [("top", "supervisor", "stopped", 0, True)]
