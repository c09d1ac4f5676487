"""Runs a scenario of supervisor_scenarios.py here."""

import asyncio

from erlang_port.etf import Atom
from erlang_port.otp import gen, gen_server, supervisor
from erlang_port.otp.child_spec import ChildSpec, Flags
from erlang_port.otp.gen import StartError
from erlang_port.otp.process import Process, Reference
from erlang_port.otp.reasons import Exit
from erlang_port.otp.runtime import Runtime, self
from erlang_port.otp.supervisor import Tree

A = Atom


class Run(Reference):
    """One scenario run here."""

    def __init__(self):
        self.counts = {}
        self.names = {}
        self.fails = {}
        self.events = []

    async def run(self, scenario):
        flags = Flags(
            **{str(k): str(v) if isinstance(v, str) else v for k, v in scenario["flags"].items()}
        )
        steps = list(scenario["steps"])
        if steps and steps[0][0] == "fail":
            await self.step(None, steps.pop(0))
        tree = Tree("s", flags, [self.spec(one) for one in scenario["children"]])
        try:
            top = await supervisor.start_link(tree)
        except StartError as error:
            return [((A("error"), self.named(error.reason)), self.news(), [])]
        seen = [await self.seen(top, flags, A("started"))]
        while steps:
            result = await self.step(top, steps.pop(0))
            await self.settle(top)
            if not top.alive:
                seen.append(((result, A("down"), top.exit_reason), self.news(), []))
                return seen + [(await self.step(top, step), [], []) for step in steps]
            seen.append(await self.seen(top, flags, result))
        top.exit("shutdown")
        while top.alive:
            await self_receive()
        return [*seen, ((A("down"), top.exit_reason), self.news(), [])]

    def spec(self, one):
        options = {str(k): v for k, v in one.items() if k not in {"id", "kind"}}
        for key in ("restart", "type", "shutdown"):
            if isinstance(options.get(key), str):
                options[key] = str(options[key])
        if isinstance(options.get("shutdown"), int):
            options["shutdown"] /= 1000
        return ChildSpec(
            one["id"], self.start, (one["id"], one["kind"]), modules=[A("m")], **options
        )

    async def start(self, child_id, kind):
        hows = self.fails.get(child_id)
        if hows:
            self.events.append((A("failed"), child_id))
            match hows.pop(0):
                case ("error", reason):
                    raise StartError(reason)
                case ("exit", reason):
                    raise Exit(reason)
                case "ignore":
                    return None

        async def body():
            while True:
                match await self_receive():
                    case ("end", reason):
                        raise Exit(reason)
                    case ("EXIT", _, reason) if kind == "trapping":
                        raise Exit(reason)

        process = Runtime.here().spawn(body, label=child_id, link=True, trap_exit=kind != "plain")
        self.counts[child_id] = self.counts.get(child_id, 0) + 1
        self.names[process] = (child_id, self.counts[child_id])
        process.watch(Reference(), self)
        self.events.append((A("started"), self.names[process]))
        return process

    def down(self, reference, process, reason):
        self.events.append((A("down"), self.names[process], reason))

    async def step(self, top, step):
        match step:
            case ("fail", child_id, hows):
                self.fails[child_id] = list(hows)
            case ("call", request):
                try:
                    return self.named(await gen_server.call(top, self.request(request), None))
                except Exit as error:
                    return A("exit"), error.reason[0]
            case ("end", name, reason) if top.alive:
                process = self.process(name)
                process.send((A("end"), reason))
                while process.alive or process in {one[1] for one in await children(top)}:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        return A("ok")

    def request(self, request):
        match request:
            case ("start_child", dict(one)):
                return A("start_child"), self.spec(one)
            case (what, ("child", name)):
                return what, self.process(name)
        return request

    def process(self, name):
        (process,) = (process for process, other in self.names.items() if other == name)
        return process

    async def settle(self, top):
        while any(one[1] == "restarting" for one in await children(top)):  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def seen(self, top, flags, result):
        there = self.named(await children(top))
        return result, self.news(), sorted(there, key=repr) if flags.simple else there

    def news(self):
        events, self.events = self.events, []
        return events

    def named(self, term):
        match term:
            case Process():
                return A("child"), self.names[term]
            case ("child", pid, child_id, _, *rest):
                return A("child"), pid, child_id, A("mfa"), *rest
            case tuple():
                return tuple(map(self.named, term))
            case list():
                return [self.named(item) for item in term]
            case dict() if "start" in term:
                return term | {A("start"): A("mfa")}
        return term


async def self_receive():
    return await self().receive()


async def children(top):
    try:
        return await gen.call(top, gen.CALL, A("which_children"), None, A("supervisor"))
    except Exit:
        return []
