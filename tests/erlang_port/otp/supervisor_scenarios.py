"""Scenarios of supervisors, and what is seen of each step; supervisor.escript does the same in OTP.

A scenario is the supervisor's flags, its children, and steps; a child's `kind` is plain, trapping
(ends as it is told) or deaf (does not). Steps:

    {fail, Id, [How]}        the next starts of a child fail: {error, R}, {exit, R} or ignore; the
                             first step is done before the supervisor is started
    {end, {Id, N}, Reason}   the process of a child's N-th start ends
    {call, Request}          what the supervisor answers

Seen of each: its result, who started, failed and ended since, and what which_children gives.
"""

from erlang_port.etf import Atom

A = Atom


def child(child_id, kind="trapping", **options):
    return {A("id"): A(child_id), A("kind"): A(kind), **{A(k): v for k, v in options.items()}}


def scenario(children, *steps, **flags):
    return {
        A("flags"): {A(key): A(v) if isinstance(v, str) else v for key, v in flags.items()},
        A("children"): children,
        A("steps"): list(steps),
    }


def fail(child_id, *hows):
    return A("fail"), A(child_id), list(hows)


def end(child_id, number, reason="crash"):
    return A("end"), (A(child_id), number), A(reason) if isinstance(reason, str) else reason


def call(request, *argument):
    return A("call"), (A(request), *argument) if argument else A(request)


THREE = [child("a"), child("b"), child("c")]
MIXED = [
    child("a", "plain", restart=A("permanent"), shutdown=A("brutal_kill")),
    child("b", restart=A("transient")),
    child("c", "deaf", restart=A("temporary"), shutdown=20),
    child("d", type=A("supervisor")),
]
NO = (A("error"), A("no"))
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
REASONS = ("normal", "shutdown", (A("shutdown"), 1), "crash", "kill")

SCENARIOS = {
    **{
        f"{strategy}, {restart} {reason}": scenario(
            [child("a"), child("b", restart=A(restart)), child("c")],
            end("b", 1, reason),
            call("count_children"),
            strategy=strategy,
        )
        for strategy in STRATEGIES
        for restart in ("permanent", "transient", "temporary")
        for reason in REASONS
    },
    **{
        f"{strategy}, each of four": scenario(
            MIXED, *(end(name, 1) for name in names), strategy=strategy, intensity=9
        )
        for strategy in STRATEGIES
        for names in ("a", "b", "d")
    },
    **{
        f"{strategy}, intensity": scenario(
            THREE,
            end("b", 1),
            end("b", 2),
            end("b", 3),
            call("which_children"),
            strategy=strategy,
            intensity=2,
            period=60,
        )
        for strategy in STRATEGIES
    },
    **{
        f"{strategy}, a restart that fails {times} times": scenario(
            THREE,
            fail("c", *[NO] * times),
            fail("b", *[NO] * times),
            end("b", 1),
            strategy=strategy,
            intensity=3,
            period=60,
        )
        for strategy in STRATEGIES
        for times in (1, 2, 4)
    },
    "default intensity": scenario(THREE, end("a", 1), end("a", 2)),
    "no restart allowed": scenario(THREE, end("c", 1), intensity=0),
    "a start fails": scenario(MIXED, fail("d", NO)),
    "a start exits": scenario(THREE, fail("b", (A("exit"), A("no")))),
    "the first start fails": scenario(THREE, fail("a", NO)),
    "starts find nothing to start": scenario(
        MIXED, fail("b", A("ignore")), call("count_children"), call("restart_child", A("b"))
    ),
    "a temporary start finds nothing to start": scenario(MIXED, fail("c", A("ignore"))),
    "a restart finds nothing to start": scenario(
        THREE, fail("b", NO), call("count_children"), fail("b", A("ignore")), end("b", 1)
    ),
    "two with one id": scenario([child("a"), child("a")]),
    "terminate, restart, delete": scenario(
        MIXED,
        *(call(f"{what}_child", A("a")) for what in ("restart", "delete", "terminate")),
        *(call(f"{what}_child", A("a")) for what in ("terminate", "restart", "terminate")),
        fail("a", NO),
        call("restart_child", A("a")),
        fail("a", (A("exit"), A("no"))),
        call("restart_child", A("a")),
        *(call(f"{what}_child", A("a")) for what in ("delete", "delete", "restart", "terminate")),
        call("get_childspec", A("a")),
        *(call("get_childspec", A(name)) for name in "bcd"),
        call("terminate_child", A("c")),
        call("restart_child", A("c")),
        call("terminate_child", A("d")),
        call("count_children"),
    ),
    "what was terminated is started with its siblings": scenario(
        THREE, call("terminate_child", A("a")), end("b", 1), strategy="one_for_all"
    ),
    "start_child": scenario(
        [child("a")],
        call("start_child", child("b", restart=A("temporary"))),
        call("start_child", child("b")),
        end("b", 1),
        call("start_child", child("b")),
        call("terminate_child", A("b")),
        call("start_child", child("b")),
        fail("c", NO),
        call("start_child", child("c", type=A("supervisor"))),
        fail("c", (A("exit"), A("no"))),
        call("start_child", child("c", shutdown=A("brutal_kill"))),
        fail("c", A("ignore")),
        call("start_child", child("c", restart=A("temporary"))),
        fail("c", A("ignore")),
        call("start_child", child("c")),
        call("start_child", child("d", restart=A("sometimes"))),
        call("start_child", child("d", type=A("thing"))),
        call("start_child", child("d", shutdown=-1)),
        call("start_child", child("d", significant=True)),
        call("start_child", child("d", significant=True, restart=A("transient"))),
    ),
    "simple_one_for_one": scenario(
        [child("x")],
        call("count_children"),
        call("start_child", []),
        call("start_child", []),
        call("count_children"),
        end("x", 1),
        fail("x", NO),
        call("start_child", []),
        fail("x", NO),
        end("x", 2),
        *(call(f"{what}_child", A("x")) for what in ("terminate", "restart", "delete")),
        call("get_childspec", A("x")),
        *2 * [call("terminate_child", (A("child"), (A("x"), 3)))],
        strategy="simple_one_for_one",
        intensity=9,
    ),
    "simple_one_for_one, temporary": scenario(
        [child("x", restart=A("temporary"))],
        call("start_child", []),
        end("x", 1),
        call("count_children"),
        strategy="simple_one_for_one",
    ),
    "any_significant": scenario(
        [child("a", restart=A("transient"), significant=True), child("b")],
        end("a", 1),
        end("a", 2, "normal"),
        auto_shutdown="any_significant",
    ),
    "all_significant": scenario(
        [child(name, restart=A("transient"), significant=True) for name in "ab"] + [child("c")],
        end("a", 1, "normal"),
        end("b", 1, "shutdown"),
        auto_shutdown="all_significant",
    ),
    "a significant one is terminated": scenario(
        [child("a", restart=A("transient"), significant=True), child("b")],
        call("terminate_child", A("a")),
        auto_shutdown="any_significant",
    ),
    "auto_shutdown of a simple one": scenario(
        [child("x")], strategy="simple_one_for_one", auto_shutdown="any_significant"
    ),
    **{
        f"flags {flags}": scenario(THREE, **flags)
        for flags in (
            {"strategy": "nonsense"},
            {"intensity": -1},
            {"period": 0},
            {"auto_shutdown": "nonsense"},
        )
    },
}
