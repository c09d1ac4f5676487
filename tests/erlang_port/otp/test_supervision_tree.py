import os
import signal

from erlang_port.otp import os_process, supervisor
from erlang_port.otp.supervision_tree import supervision_tree
from erlang_port.otp.supervisor import Backoff, ChildSpec, Flags, Tree
from tests.bridge.waiting import until
from tests.erlang_port.otp.processes import Probe, as_process, exit_of
from tests.support.processes import alive


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
    assert flat(supervision_tree(top)) == [
        ("top", "supervisor", "running", 0, False),
        ("a", "worker", "running", 1, False),
        ("inner", "supervisor", "running", 0, False),
        ("x", "worker", "running", 0, False),
        ("('y', 1)", "worker", "running", 0, False),
        ("z", "worker", "stopped", 0, True),
    ]
    top.exit("shutdown")
    await exit_of(top)
    assert flat(supervision_tree(top)) == [("top", "supervisor", "stopped", 0, True)]


@as_process
async def test_a_process_of_the_system_in_it():
    child = os_process.os_process("a", ["sleep", "100"], backoff=Backoff(0.01, 0.01))
    top = await supervisor.start_link(Tree("top", Flags(), [child]))

    def shown():
        (found,) = supervision_tree(top)["children"]
        return found

    first = shown()
    assert (first["type"], first["state"], first["restarts"]) == ("os_process", "running", 0)
    assert first["uptime_seconds"] >= 0
    os.kill(first["os_pid"], signal.SIGKILL)
    await until(lambda: shown()["restarts"] == 1)
    again = shown()
    assert (again["type"], again["state"]) == ("os_process", "running")
    assert again["os_pid"] != first["os_pid"]
    assert alive(again["os_pid"])
    await supervisor.terminate_child(top, "a")
    stopped = shown()
    assert (stopped["type"], stopped["state"], stopped["os_pid"]) == ("os_process", "stopped", None)
    assert not alive(again["os_pid"])
    top.exit("shutdown")
    await exit_of(top)
