import asyncio
import logging

import pytest

from erlang_port.otp import gen, gen_server, supervisor, sys
from erlang_port.otp.gen_server import GenServer, Ignore, NoReply, Ok
from erlang_port.otp.runtime import Runtime
from erlang_port.otp.runtime import self as running
from erlang_port.otp.supervisor import ChildError, ChildSpec, Flags, StartError, Supervisor, Tree
from tests.erlang_port.otp.processes import Probe, as_process, exit_of, turns


@pytest.fixture
async def probe():
    return Probe()


async def start(children, **flags):
    process = await supervisor.start_link(Tree("s", Flags(**flags), children))
    assert process is not None
    return process


async def stop(process):
    await gen.stop(process, "shutdown", 5)
    assert await exit_of(process) == "shutdown"


async def refused(request):
    with pytest.raises(ChildError) as raised:
        await request
    return raised.value.reason


@as_process
async def test_children_start_in_order_and_stop_in_reverse(probe):
    process = await start(probe.children("abc"))
    assert probe.events == ["+a", "+b", "+c"]
    await stop(process)
    assert probe.events[3:] == ["-c", "-b", "-a"]


@pytest.mark.parametrize(
    ("strategy", "after"),
    [
        ("one_for_one", ["-b", "+b"]),
        ("one_for_all", ["-b", "-c", "-a", "+a", "+b", "+c"]),
        ("rest_for_one", ["-b", "-c", "+b", "+c"]),
    ],
)
@as_process
async def test_strategies(probe, strategy, after):
    process = await start(probe.children("abc"), strategy=strategy)
    probe.end("b")
    await probe.until(*after)
    assert await supervisor.count_children(process) == (3, 3, 0, 3)
    await stop(process)


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), "crash"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@as_process
async def test_restart_types(probe, restart, reason):
    process = await start([probe.child("a", restart=restart), probe.child("z")])
    again = restart == "permanent" or (restart == "transient" and reason == "crash")
    probe.end("a", reason)
    await probe.until(*(["-a", "+a"] if again else ["-a"]))
    await turns()
    children = {info.id: info.child for info in await supervisor.which_children(process)}
    expected = {"a": probe.processes["a"] if again else None, "z": probe.processes["z"]}
    if restart == "temporary":
        del expected["a"]
    assert children == expected
    await stop(process)


@as_process
async def test_too_many_restarts_end_the_supervisor_after_its_children(probe, caplog):
    tree = Tree("s", Flags(intensity=2, period=60), probe.children("ab"))
    process = await supervisor.start_link(tree)
    for _ in range(2):
        probe.end("b")
        await probe.until("-b", "+b")
    probe.end("b")
    assert await exit_of(process) == "shutdown"
    assert probe.news == ["-b", "-a"]
    assert tree.gave_up == "s: more than 2 restarts in 60 s, the last of b"
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL] == [
        tree.gave_up
    ]


@as_process
async def test_restarts_that_are_long_past_do_not_count(probe):
    process = await start(probe.children("a"), intensity=1, period=0.05)
    for _ in range(3):
        probe.end("a")
        await probe.until("-a", "+a")
        past = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.06, past.set_result, None)
        await past
    await stop(process)


@as_process
async def test_a_child_that_cannot_start_stops_those_before_it(probe):
    probe.failures["c"] = ["no port"]
    with pytest.raises(StartError) as raised:
        await start(probe.children("abcd"))
    assert raised.value.reason == ("shutdown", ("failed_to_start_child", "c", "no port"))
    assert probe.events == ["+a", "+b", "!c", "-b", "-a"]
    assert not running().mailbox


@as_process
async def test_a_start_that_raises_is_a_start_that_failed(probe, caplog):
    async def broken():
        raise OSError("no port")

    process = await start(probe.children("a"))
    ((tag, ((kind, *_), _)), record) = await refused(
        supervisor.start_child(process, ChildSpec("b", broken))
    )
    assert (tag, kind) == ("EXIT", "python_error")
    assert record[:3] == ("child", None, "b")
    assert "OSError: no port" in caplog.text
    await stop(process)


@as_process
async def test_a_restart_that_fails_counts_as_another(probe):
    process = await start(probe.children("ab"), intensity=3, period=60)
    probe.failures["a"] = ["gone"] * 9
    probe.end("a")
    assert await exit_of(process) == "shutdown"
    assert probe.news == ["-a", "!a", "!a", "!a", "-b"]


@as_process
async def test_a_restart_that_fails_goes_on_with_the_child_that_failed(probe):
    process = await start(probe.children("abc"), strategy="rest_for_one", intensity=2, period=60)
    probe.failures["c"] = ["not yet"]
    probe.end("b")
    await probe.until("-b", "-c", "+b", "!c", "+c")
    await stop(process)


@as_process
async def test_a_child_that_is_restarting_can_be_terminated(probe):
    spec = probe.child("a")
    failing, failed = asyncio.Event(), asyncio.Event()

    async def fails_once():
        if probe.mark and probe.news == ["-a"]:
            failing.set()
            await failed.wait()
            raise StartError("gone")
        return await spec.start(*spec.args)

    process = await start([probe.child("b"), ChildSpec("a", fails_once)])
    probe.end("a")
    await failing.wait()
    # They come before its own message to try again.
    asked = [
        gen_server.send_request(process, request)
        for request in (
            "which_children",
            *((f"{what}_child", "a") for what in ("restart", "delete", "terminate", "delete")),
        )
    ]
    failed.set()
    assert [await request.response(5) for request in asked] == [
        [
            ("a", "restarting", "worker", "dynamic"),
            ("b", probe.processes["b"], "worker", "dynamic"),
        ],
        *(("error", "restarting"), ("error", "restarting"), "ok", "ok"),
    ]
    await stop(process)


@as_process
async def test_a_supervisor_is_a_child_and_its_end_is_its_parents_concern(probe):
    inner = Tree("inner", Flags(intensity=0), probe.children("x"))
    spec = ChildSpec("inner", supervisor.start_link, (inner,), type="supervisor")
    outer = await start([probe.child("a"), spec])
    assert await supervisor.count_children(outer) == (2, 2, 1, 1)
    probe.end("x")
    await probe.until("-x", "+x")
    await stop(outer)
    assert probe.news == ["-x", "+x", "-x", "-a"]


@as_process
async def test_siblings_are_restarted_as_their_restart_types_say(probe):
    # supervisor(3): a temporary child is never restarted, even where a sibling's end is its own;
    # a transient one that has ended is started again with its siblings.
    process = await start(
        [
            probe.child("temporary", restart="temporary"),
            probe.child("transient", restart="transient"),
            probe.child("permanent"),
        ],
        strategy="one_for_all",
    )
    probe.end("transient", "normal")
    await probe.until("-transient")
    probe.end("permanent")
    await probe.until("-permanent", "-temporary", "+transient", "+permanent")
    assert [info.id for info in await supervisor.which_children(process)] == [
        "permanent",
        "transient",
    ]
    await stop(process)


class Deaf(GenServer[None]):
    def init(self, _):
        running().trap_exit = True
        return Ok(None)

    async def terminate(self, _, __):
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("shutdown", [0.02, "brutal_kill"])
@as_process
async def test_a_child_that_does_not_end_is_killed(shutdown, caplog):
    spec = ChildSpec("a", gen_server.start_link, (Deaf,), shutdown=shutdown)
    process = await start([spec])
    (child,) = (info.child for info in await supervisor.which_children(process))
    await stop(process)
    assert child.exit_reason == "killed"
    assert ("did not stop as told: killed" in caplog.text) == (shutdown == 0.02)


@as_process
async def test_terminate_restart_delete(probe):
    process = await start(probe.children("ab"), intensity=0)
    assert await refused(supervisor.restart_child(process, "a")) == "running"
    assert await refused(supervisor.delete_child(process, "a")) == "running"
    for name in ("terminate", "restart", "delete"):
        request = getattr(supervisor, f"{name}_child")
        assert await refused(request(process, "x")) == "not_found"
    await supervisor.terminate_child(process, "a")
    await supervisor.terminate_child(process, "a")
    assert probe.events == ["+a", "+b", "-a"]
    assert await supervisor.count_children(process) == (2, 1, 0, 2)
    # It is no restart: the intensity of 0 still holds.
    assert await supervisor.restart_child(process, "a") is probe.processes["a"]
    await supervisor.terminate_child(process, "a")
    probe.failures["a"] = ["gone"]
    assert await refused(supervisor.restart_child(process, "a")) == "gone"
    await supervisor.delete_child(process, "a")
    assert await refused(supervisor.restart_child(process, "a")) == "not_found"
    await stop(process)


@as_process
async def test_a_temporary_child_that_is_terminated_is_forgotten(probe):
    process = await start([probe.child("t", restart="temporary")])
    await supervisor.terminate_child(process, "t")
    assert await refused(supervisor.restart_child(process, "t")) == "not_found"
    await stop(process)


@as_process
async def test_start_child(probe):
    process = await start(probe.children("a"))
    spec = probe.child("b")
    child = await supervisor.start_child(process, spec)
    assert child is probe.processes["b"]
    assert await refused(supervisor.start_child(process, spec)) == ("already_started", child)
    await supervisor.terminate_child(process, "b")
    assert await refused(supervisor.start_child(process, spec)) == "already_present"
    wrong = spec.__class__("c", spec.start, restart="sometimes")
    assert await refused(supervisor.start_child(process, wrong)) == (
        "invalid_restart_type",
        "sometimes",
    )
    assert await refused(supervisor.start_child(process, ["x"])) == ("invalid_child_spec", ["x"])
    await stop(process)


@pytest.mark.parametrize(("restart", "kept"), [("permanent", 1), ("temporary", 0)])
@as_process
async def test_a_start_that_finds_nothing_to_start(restart, kept):
    class Nothing(GenServer[None]):
        def init(self, _):
            return Ignore()

    spec = ChildSpec("n", gen_server.start_link, (Nothing,), restart=restart)
    process = await start([spec])
    assert len(await supervisor.which_children(process)) == kept
    other = ChildSpec("o", gen_server.start_link, (Nothing,), restart=restart)
    assert await supervisor.start_child(process, other) is None
    assert await supervisor.count_children(process) == (2 * kept, 0, 0, 2 * kept)
    await stop(process)


@as_process
async def test_simple_one_for_one(probe):
    process = await start([probe.child("x")], strategy="simple_one_for_one", intensity=5)
    assert await supervisor.count_children(process) == (1, 0, 0, 0)
    first, second = [await supervisor.start_child(process, [n]) for n in range(2)]
    assert {info.child for info in await supervisor.which_children(process)} == {first, second}
    assert {info.id for info in await supervisor.which_children(process)} == {None}
    for request in ("terminate", "restart", "delete"):
        reason = await refused(getattr(supervisor, f"{request}_child")(process, "x"))
        assert reason == "simple_one_for_one"
    assert await refused(supervisor.terminate_child(process, running())) == "not_found"
    probe.end("x")
    await probe.until("-x", "+x")
    assert not second.alive
    await supervisor.terminate_child(process, first)
    assert await supervisor.count_children(process) == (1, 1, 0, 1)
    probe.failures["x"] = ["no"]
    assert await refused(supervisor.start_child(process, [])) == "no"
    probe.failures["x"] = ["no", "no"]
    probe.end("x")
    await probe.until("-x", "!x", "!x", "+x")
    assert (await supervisor.get_childspec(process, "x"))["restart"] == "permanent"
    await supervisor.start_child(process, [])
    await stop(process)
    assert probe.events[-2:] == ["-x", "-x"]


@pytest.mark.parametrize(
    ("how", "names"), [("any_significant", "a"), ("all_significant", "ab"), ("never", "")]
)
@as_process
async def test_auto_shutdown(probe, how, names):
    significant = how != "never"
    children = [
        *probe.children("ab", restart="transient", significant=significant),
        probe.child("c", restart="transient"),
    ]
    process = await start(children, auto_shutdown=how)
    probe.end("c", "normal")
    await probe.until("-c")
    for name in names:
        assert process.alive
        probe.end(name, "normal")
        await turns()
    if significant:
        assert await exit_of(process) == "shutdown"
    else:
        await stop(process)


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        ((Flags(), [ChildSpec("a", start), ChildSpec("a", start)]), ("start_spec",)),
        ((Flags(strategy="x"), []), ("supervisor_data", ("invalid_strategy", "x"))),
        ((Flags(strategy="simple_one_for_one"), []), ("bad_start_spec", [])),
        ("nonsense", ("bad_return",)),
    ],
)
@as_process
async def test_what_init_may_not_give(init, reason):
    class Wrong(Supervisor):
        def init(self, _):
            return init

    with pytest.raises(StartError) as raised:
        await supervisor.start_link(Wrong)
    assert raised.value.reason[: len(reason)] == reason


@as_process
async def test_init_may_be_async_and_may_want_no_supervisor():
    class Unwanted(Supervisor):
        async def init(self, args):
            assert args == 7
            return Ignore()

    assert await supervisor.start_link(Unwanted, 7) is None


@as_process
async def test_the_supervisor_ends_with_its_parent(probe):
    started = asyncio.Event()

    async def parent():
        await supervisor.start_link(Tree("s", Flags(), probe.children("ab")), name="s")
        started.set()
        await running().receive()

    process = Runtime.here().spawn(parent)
    await started.wait()
    process.exit("crash")
    await probe.until("+a", "+b", "-b", "-a")
    await turns()
    assert Runtime.here().whereis("s") is None


@as_process
async def test_children_end_with_a_supervisor_that_is_killed(probe):
    process = await start(probe.children("ab"))
    process.exit("kill")
    assert await exit_of(process) == "killed"
    await turns()
    assert sorted(probe.events[2:]) == ["-a", "-b"]


@as_process
async def test_a_supervisor_killed_in_the_midst_of_starting_leaves_nobody(probe):
    slow = asyncio.get_running_loop().create_future()

    class Slow(GenServer[None]):
        async def init(self, _):
            slow.set_result(None)
            await asyncio.get_running_loop().create_future()

    children = [probe.child("a"), ChildSpec("slow", gen_server.start_link, (Slow,))]
    before = set(Runtime.here().processes.values())
    starting = asyncio.create_task(start(children))
    await slow
    (process,) = (p for p in set(Runtime.here().processes.values()) - before if p.label == "s")
    process.exit("kill")
    with pytest.raises(StartError):
        await starting
    await turns()
    assert set(Runtime.here().processes.values()) == before


@as_process
async def test_what_is_no_request_gets_an_error_and_other_messages_are_ignored(probe):
    process = await start(probe.children("a"))
    assert await gen_server.call(process, ("nonsense", 1)) == (
        "error",
        ("bad_call", ("nonsense", 1)),
    )
    assert await gen_server.call(process, ("delete_child", [1])) == ("error", "not_found")
    assert await gen_server.call(process, ("start_child", {})) == (
        "error",
        ("invalid_child_spec", {}),
    )
    process.send("nonsense")
    process.send(("EXIT", running(), "crash", 1))
    assert (await sys.get_state(process))[:2] == ("state", "one_for_one")
    assert (await sys.get_status(process))[0] == "status"
    await stop(process)


@as_process
async def test_an_id_may_be_asked_for_by_the_binary_that_the_node_has_of_it(probe):
    process = await start(probe.children("a"))
    await supervisor.terminate_child(process, b"a")
    assert probe.events == ["+a", "-a"]
    await stop(process)


@as_process
async def test_a_child_that_its_start_did_not_link_is_supervised_too():
    class Idle(GenServer[None]):
        def init(self, _):
            return Ok(None)

        def handle_info(self, _, state):
            return NoReply(state)

    process = await start([ChildSpec("a", gen_server.start, (Idle,))])
    (first,) = (info.child for info in await supervisor.which_children(process))
    first.exit("crash")
    await turns()
    (second,) = (info.child for info in await supervisor.which_children(process))
    assert second.alive
    assert second is not first
    await stop(process)
    assert not second.alive
