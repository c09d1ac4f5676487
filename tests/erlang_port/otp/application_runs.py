"""Runs a scenario of application_scenarios.py here."""

import asyncio

from erlang_port.etf import Atom
from erlang_port.otp import application, supervisor
from erlang_port.otp.application import Application, ApplicationError, ApplicationSpec
from erlang_port.otp.application_controller import ApplicationController
from erlang_port.otp.child_spec import ChildSpec, Flags
from erlang_port.otp.gen import StartError
from erlang_port.otp.reasons import Exit
from erlang_port.otp.runtime import Runtime, self
from erlang_port.otp.supervisor import Tree

A = Atom


class Run:
    """One scenario run here; `seen` is what application.escript writes down."""

    def __init__(self, scenario):
        self.apps = scenario["apps"]
        self.steps = scenario["steps"]
        self.fails = {}
        self.tops = {}
        self.seen = []

    async def run(self):
        for step in self.steps:
            await self.step(*step)
        controller = ApplicationController.here()
        await controller.stop_all()
        for name in application.loaded_applications():
            application.unload(name)
        return [*self.seen, A("over")]

    async def run_to_the_end(self):
        """The last step is the end of all."""
        for step in self.steps[:-1]:
            await self.step(*step)
        _, name, reason = self.steps[-1]
        self.tops[name].send((A("end"), reason))
        controller = ApplicationController.here()
        assert (await controller.terminated)[0] == name
        await controller._stopping
        assert application.which_applications() == []
        return self.seen

    def called(self, *event):
        self.seen.append((A("called"), event))

    def next(self, what):
        hows = self.fails.get(what)
        return hows.pop(0) if hows else None

    async def step(self, function, *arguments):
        match function, *arguments:
            case "fail", what, hows:
                self.fails[what] = list(hows)
                return
            case "end", name, reason:
                self.tops[name].send((A("end"), reason))
                while name in application.which_applications():  # noqa: ASYNC110
                    await asyncio.sleep(0)
                result = None
            case "load", name:
                result = await self.call("load", self.spec(name, self.apps[name]))
            case "get_env", *_:
                result = await self.call(function, *arguments)
                if len(arguments) == 2:
                    result = A("undefined") if result == "ok" else (A("ok"), result)
            case "get_all_env", name:
                result = sorted(application.get_all_env(name).items())
            case (("set_env" | "unset_env"), *_) if isinstance(arguments[-1], list):
                options = {str(key): value for key, value in arguments[-1]}
                result = await self.call(function, *arguments[:-1], **options)
            case "ensure_all_started", *_:
                result = await self.call(function, *arguments)
                result = (A("ok"), list(map(A, result))) if isinstance(result, list) else result
            case _:
                result = await self.call(function, *arguments)
        running = list(map(A, application.which_applications()))
        loaded = sorted(map(A, application.loaded_applications()))
        self.seen.append((A("seen"), A("ok") if result is None else result, running, loaded))

    async def call(self, function, *arguments, **options):
        try:
            result = getattr(application, function)(*arguments, **options)
            result = await result if asyncio.iscoroutine(result) else result
        except ApplicationError as error:
            return A("error"), named(error.reason)
        return A("ok") if result is None else result

    def spec(self, name, keys):
        return ApplicationSpec(
            name,
            None if keys.get("library") else Scripted(self, name),
            args=(A("args"), name),
            applications=keys["needs"],
            env=dict(keys.get("env", [])),
            start_phases=[(phase, (name, args)) for phase, args in keys.get("phases", [])],
        )


class Scripted(Application):
    """Does what the scenario says of it."""

    def __init__(self, run, name):
        self.run = run
        self.name = name
        # OTP kills the top process when a phase has failed, and nobody sees it end.
        self.silent = False

    def do(self, how):
        match how:
            case ("error", reason):
                raise StartError(reason)
            case ("raise", "exit", reason):
                raise Exit(reason)
        return how

    async def start(self, start_type, args):
        self.silent = False
        assert args == ("args", self.name)
        how = self.run.next(self.name)
        if how is not None and how != "supervisor":
            self.run.called(A("failed"), self.name)
            return self.do(how)
        self.run.called(A("start"), self.name, A(start_type))
        if how is None:
            return self.spawn(), (A("state"), self.name)
        child = ChildSpec("child", self.start_child)
        tree = Tree("top", Flags(intensity=0), [child])
        return await supervisor.start_link(tree), (A("state"), self.name)

    async def start_child(self):
        return self.spawn()

    def spawn(self):
        top = Runtime.here().spawn(self.top, label=self.name, link=True, trap_exit=True)
        self.run.tops[self.name] = top
        return top

    async def top(self):
        match await self_receive():
            case ("EXIT", _, reason) | ("end", reason):
                if not self.silent:
                    self.run.called(A("ended"), self.name, reason)
                raise Exit(reason)

    def start_phase(self, phase, start_type, args):
        name, args = args
        assert name == self.name
        how = self.run.next((name, phase))
        if how is not None:
            self.run.called(A("failed"), name, phase)
            self.silent = True
            return self.do(how)
        return self.run.called(A("start_phase"), name, A(phase), A(start_type), args)

    def prep_stop(self, state):
        self.run.called(A("prep_stop"), self.name)
        how = self.run.next((self.name, "prep_stop"))
        return (A("prepared"), state) if how is None else self.do(how)

    def stop(self, state):
        how = A("prepared") if state[0] == "prepared" else A("not_prepared")
        self.run.called(A("stop"), self.name, how)
        self.do(self.run.next((self.name, "stop")))


def named(term):
    match term:
        case (bytes(), str(function), list(arguments)):
            return A("#module"), function, arguments
        case ("bad_return", (called, bytes())):
            return term[0], (named(called), A("#value"))
        case tuple():
            return tuple(map(named, term))
    return term


async def self_receive():
    return await self().receive()
