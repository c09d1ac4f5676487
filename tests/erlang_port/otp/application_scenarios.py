"""Scenarios of applications, and what is seen of each step; application.escript does it in OTP.

A scenario is applications, by name, and steps. An application may have `needs`, `env`, `phases`, or
be a `library`. Steps are the functions of `application` with their arguments, and

    {fail, What, [How]}      the next times of What, an application's start or {Name, Callback}:
                             {error, R}, another bad result, or {raise, exit | error, R};
                             `supervisor` has it start a supervisor whose child may not end
    {end, Name, Reason}      an application's top process ends, or the child of its supervisor

What is seen: what was called, a step's result, which applications run and which are loaded.

Here, other than in OTP, no `.app` file is looked for (`{not_loaded, Name}`), all that is needed is
looked up before anything is started, and the top process of an application whose phase has failed
is shut down in order, not killed.
"""

from erlang_port.etf import Atom

A = Atom


def app(*needs, **options):
    return {A("needs"): [A(name) for name in needs], **{A(k): v for k, v in options.items()}}


def scenario(apps, *steps):
    return {
        A("apps"): {A(name): options for name, options in apps.items()},
        A("steps"): [tuple(A(p) if isinstance(p, str) else p for p in step) for step in steps],
    }


def load(names):
    return [("load", name) for name in names]


def fail(what, *hows):
    what = A(what) if isinstance(what, str) else tuple(map(A, what))
    return A("fail"), what, list(hows)


NO = (A("error"), A("no"))
EXITS = (A("raise"), A("exit"), A("no"))
#: Of these a needs all, and b and c need d.
FOUR = {"a": app("b", "c"), "b": app("d"), "c": app("d"), "d": app()}
PHASES = {"a": app(phases=[(A("first"), 1), (A("second"), [2])])}
REASONS = ("normal", "shutdown", "crash")

SCENARIOS = {
    "start and stop": scenario(
        {"a": app()},
        ("start", "a"),
        *load("a"),
        *load("a"),
        ("start", "a"),
        ("start", "a"),
        ("unload", "a"),
        ("stop", "a"),
        ("stop", "a"),
        ("start", "a"),
        ("stop", "a"),
        ("unload", "a"),
        ("unload", "a"),
        ("stop", "a"),
    ),
    "a library": scenario({"a": app(library=True)}, *load("a"), ("start", "a"), ("stop", "a")),
    "ensure_started": scenario(
        {"a": app(), "b": app("a")},
        *load("ab"),
        ("ensure_started", "b"),
        ("ensure_started", "a"),
        ("ensure_started", "a"),
        ("ensure_started", "b", "transient"),
        ("ensure_started", "nobody"),
    ),
    "needs": scenario(
        FOUR,
        *load("abcd"),
        ("start", "a"),
        ("start", "d"),
        ("start", "a"),
        ("start", "b"),
        ("start", "a"),
        ("start", "c"),
        ("start", "a"),
        ("stop", "d"),
        ("start", "d"),
        ("stop", "a"),
    ),
    "ensure_all_started": scenario(
        FOUR,
        *load("abcd"),
        ("ensure_all_started", "c"),
        ("ensure_all_started", "a"),
        ("ensure_all_started", "a"),
        ("ensure_all_started", "d", "permanent"),
    ),
    "ensure_all_started, one fails": scenario(
        FOUR,
        *load("abcd"),
        ("start", "d"),
        fail("c", NO, EXITS),
        ("ensure_all_started", "a"),
        ("ensure_all_started", "a"),
        ("ensure_all_started", "a"),
    ),
    "ensure_all_started, the first is not there": scenario(
        {"a": app("b")}, *load("a"), ("ensure_all_started", "a"), ("ensure_all_started", "nobody")
    ),
    **{
        f"a start fails: {name}": scenario(
            {"a": app(), "b": app("a")},
            *load("ab"),
            fail("a", how),
            ("start", "a"),
            ("start", "b"),
            ("start", "a"),
        )
        for name, how in {
            "error": NO,
            "exit": EXITS,
            "error with a term": (A("error"), (A("shutdown"), [1])),
            "exit normal": (A("raise"), A("exit"), A("normal")),
            "bad result": A("strange"),
        }.items()
    },
    "phases": scenario(PHASES, *load("a"), ("start", "a"), ("stop", "a")),
    "no phases": scenario({"a": app(phases=[])}, *load("a"), ("start", "a"), ("stop", "a")),
    **{
        f"a phase fails: {name}": scenario(
            PHASES, *load("a"), fail(("a", "second"), how), ("start", "a"), ("start", "a")
        )
        for name, how in {"error": NO, "exit": EXITS}.items()
    },
    "prep_stop fails": scenario(
        {"a": app()}, *load("a"), ("start", "a"), fail(("a", "prep_stop"), EXITS), ("stop", "a")
    ),
    "stop fails": scenario(
        {"a": app()}, *load("a"), ("start", "a"), fail(("a", "stop"), EXITS), ("stop", "a")
    ),
    **{
        f"{kind} ends {reason}": scenario(
            {"a": app(), "b": app("a"), "c": app()},
            *load("abc"),
            ("start", "a", kind),
            ("start", "b"),
            ("start", "c", "permanent"),
            ("end", "a", reason),
            ("start", "a"),
        )
        for kind, reasons in {"temporary": REASONS, "transient": REASONS[:1]}.items()
        for reason in reasons
    },
    "a supervisor on top gives up": scenario(
        {"a": app(), "b": app()},
        *load("ab"),
        fail("a", A("supervisor")),
        ("start", "b"),
        ("start", "a"),
        ("end", "a", "crash"),
    ),
    "a supervisor on top is stopped": scenario(
        {"a": app()}, *load("a"), fail("a", A("supervisor")), ("start", "a"), ("stop", "a")
    ),
    "one that is permanent is stopped": scenario(
        {"a": app(), "b": app()},
        *load("ab"),
        ("start", "b", "permanent"),
        ("start", "a", "permanent"),
        ("stop", "b"),
    ),
    "the environment": scenario(
        {"a": app(env=[(A("x"), 1), (A("y"), [2])])},
        ("get_env", "a", "x"),
        ("get_env", "a", "x", "default"),
        ("get_all_env", "a"),
        *load("a"),
        ("get_env", "a", "x"),
        ("get_env", "a", "z"),
        ("get_env", "a", "z", "default"),
        ("set_env", "a", "x", 3),
        ("set_env", "a", "z", "value"),
        ("get_all_env", "a"),
        ("unset_env", "a", "x"),
        ("unset_env", "a", "nothing"),
        ("get_env", "a", "x", "default"),
        ("start", "a"),
        ("get_all_env", "a"),
        ("stop", "a"),
        ("get_all_env", "a"),
        ("unload", "a"),
        ("get_all_env", "a"),
        *load("a"),
        ("get_all_env", "a"),
    ),
    "an environment set before": scenario(
        {"a": app(env=[(A("x"), 1)])},
        ("set_env", "a", "x", 2),
        ("set_env", "a", "y", 3),
        ("unset_env", "b", "x"),
        ("get_all_env", "a"),
        *load("a"),
        ("get_all_env", "a"),
    ),
    "an environment that persists": scenario(
        {"a": app(env=[(A("x"), 1), (A("y"), 1)])},
        ("set_env", "a", "x", 2, [(A("persistent"), True)]),
        ("set_env", "a", "z", 2, [(A("persistent"), False)]),
        *load("a"),
        ("get_all_env", "a"),
        ("unload", "a"),
        *load("a"),
        ("get_all_env", "a"),
        ("set_env", "a", "x", 3),
        ("unset_env", "a", "y", [(A("persistent"), True)]),
        ("get_all_env", "a"),
        ("unload", "a"),
        *load("a"),
        ("get_all_env", "a"),
        ("unset_env", "a", "x", [(A("persistent"), True)]),
        ("unload", "a"),
        *load("a"),
        ("get_all_env", "a"),
    ),
}

#: These end the VM: its other applications are stopped first.
LAST_SCENARIOS = {
    f"{kind} ends {reason}": scenario(
        {"a": app(), "b": app("a"), "c": app()},
        *load("abc"),
        ("start", "a", kind),
        ("start", "b"),
        ("start", "c", "permanent"),
        ("end", "a", reason),
    )
    for kind, reasons in {"permanent": REASONS, "transient": REASONS[1:]}.items()
    for reason in reasons
} | {
    "a supervisor on top of a permanent one gives up": scenario(
        {"a": app(), "b": app("a")},
        *load("ab"),
        fail("a", A("supervisor")),
        ("start", "a", "permanent"),
        ("start", "b", "permanent"),
        ("end", "a", "crash"),
    ),
}
