"""Plays a scenario with the behaviours of Python, as actors.erl does with OTP's."""

import asyncio
import base64
import re
import subprocess
import time
from pathlib import Path

import pytest

from erlang_port.etf import Atom, decode, encode
from erlang_port.otp import gen, sys, timers
from erlang_port.otp.process import Process, Reference
from erlang_port.otp.reasons import Exit
from erlang_port.otp.runtime import Runtime
from erlang_port.otp.runtime import self as me
from tests.support.tools import require_tool

HERE = Path(__file__).parent

#: Seconds for a message that should come, and for one that should not; as in actors.erl.
WAIT = 3.0
NOTHING = 0.03

#: The VM's exit status when its release lacks a behaviour.
GONE = 3

SAME = "same"

#: Reasons for which a callback's bad value is told.
BAD = {
    "bad_return_value",
    "bad_return_from_init",
    "bad_return_from_state_function",
    "bad_action_from_state_function",
    "bad_state_enter_return_from_state_function",
    "bad_state_enter_action_from_state_function",
    "bad_reply_action_from_state_function",
}


def names(file):
    """The scenarios of a file; what they say is read by the VM."""
    return re.findall(r"^\{(\w+),", (HERE / file).read_text(), re.MULTILINE)


def played_by_otp(behaviour, file):
    """All scenarios of a file, by name: their steps, and what was seen with OTP."""
    command = [require_tool("escript"), HERE / "run.escript", behaviour, HERE / file]
    done = subprocess.run(command, capture_output=True, timeout=100)
    if done.returncode == GONE:
        pytest.skip(f"this OTP has no {behaviour}")
    assert done.returncode == 0, done
    played = decode(base64.b64decode(done.stdout.splitlines()[-1]))
    return {name: (steps, traces) for name, steps, traces in played}


async def play(world, steps):
    """What was seen, by actor."""
    runtime = Runtime.here()

    async def body():
        await Actor(world, "main").run(steps)

    main = runtime.spawn(body, label="main")
    reason = await ended(main, 10.0)
    world.note("main", "stuck" if reason is None else (Atom("ended"), reason))
    for process in list(world.processes):
        process.exit("kill")
        await ended(process, WAIT)
    assert not runtime.processes
    # As the VM's trace came: a term of its own.
    return decode(encode(world.normal_traces()))


async def ended(process, timeout):
    """Waits for its end; the reason."""
    over = asyncio.get_running_loop().create_future()

    class Watcher:
        def down(self, _reference, _process, reason):
            over.set_result(reason)

    if process.alive:
        reference = Reference()
        process.watch(reference, Watcher())
        try:
            async with asyncio.timeout(timeout):
                await over
        except TimeoutError:
            process.unwatch(reference)
    return process.exit_reason


class World:
    """What the actors of a scenario share: names, and their traces.

    `behaviour` is the module of the behaviour, `modules` the scripted callback modules by name,
    `asynchronous` whether their callbacks are.
    """

    def __init__(self, behaviour, modules, asynchronous):
        self.behaviour = behaviour
        self.modules = modules
        self.asynchronous = asynchronous
        self.bound = {}
        self.who = {}
        self.processes = []
        self.traces = {}
        self.changed = asyncio.Event()

    def bind(self, name, value):
        self.bound[name] = value
        self.who[id(value)] = (Atom(name), value)
        if isinstance(value, Process) and value not in self.processes:
            self.processes.append(value)
        self.changed.set()

    def note(self, actor, event):
        self.traces.setdefault(Atom(actor), []).append(event)

    def the(self, term):
        """`{the, Name}` anywhere in a term is what the name is bound to, if it is."""
        if isinstance(term, gen.From):
            return term
        if isinstance(term, tuple):
            if len(term) == 2 and term[0] == "the":
                return self.bound.get(term[1], term)
            if len(term) == 2 and term[0] == "in_ms":
                return round(time.monotonic() * 1000) + term[1]
            return tuple(map(self.the, term))
        return list(map(self.the, term)) if isinstance(term, list) else term

    def normal_traces(self):
        return {
            actor: [self.normal(event) for event in trace] for actor, trace in self.traces.items()
        }

    def normal(self, term):
        """What is the same in both worlds: the counterpart of actors:normal/2.

        An exception is the reason `{{python_error, _, _}, Traceback}` where an error is
        `{Reason, Stacktrace}`, and a bad result is told by its type, for it need be no term. A
        callback that is not there is `bad_call` and the like, not `undef`.
        """
        match term:
            case (("python_error", bytes(), bytes()), list()) | ("python_error", bytes(), bytes()):
                return Atom("#error")
            case ("bad_call" | "bad_cast" | "bad_info" | "bad_continue", _):
                return Atom("#undef")
            case (str(tag), _) if tag in BAD:
                return Atom(tag), Atom("#value")
            case "boom":
                return Atom("#error")
        name, value = self.who.get(id(term), (None, None))
        if value is term and name is not None:
            return Atom("#"), name
        if isinstance(term, Process):
            return Atom("#pid")
        if isinstance(term, Reference):
            return Atom("#ref")
        if isinstance(term, tuple):
            return tuple(map(self.normal, term))
        if isinstance(term, list):
            return list(map(self.normal, term))
        return Atom(term) if type(term) is str else term


class Actor:
    """Takes steps, or does what a callback's message says."""

    def __init__(self, world, name):
        self.world = world
        self.name = name
        self.plans = {}
        self.from_ = None
        world.bind(name, me())

    async def run(self, steps):
        for step in steps:
            waiting = self.step(step)
            if waiting is not None:
                await waiting

    def note(self, *event):
        self.world.note(self.name, event if len(event) > 1 else event[0])

    # Callbacks.

    def keep(self, from_):
        self.from_ = from_
        self.world.bind("from", from_)

    def on(self, what, state, default):
        """What a callback that has no plan in its message gives."""
        plan = self.plans.get(what)
        return default if plan is None else self.plan(plan, state)

    def plan(self, plan, state):
        """Does {do, Steps, Result}; a coroutine when it has to wait, or is to be asynchronous."""
        steps, result = plan[1:] if type(plan) is tuple and plan[0] == "do" else ([], plan)
        for at, step in enumerate(steps):
            waiting = self.step(step)
            if waiting is not None:
                return self._rest(waiting, steps[at + 1 :], result, state)
        return (
            self._rest(None, [], result, state)
            if self.world.asynchronous
            else self._result(result, state)
        )

    async def _rest(self, waiting, steps, result, state):
        await (asyncio.sleep(0) if waiting is None else waiting)
        await self.run(steps)
        return self._result(result, state)

    def _result(self, result, state):
        result = self.world.the(result)
        match result:
            case ("raise", "exit", reason):
                raise Exit(reason)
            case ("raise", "error", reason):
                raise ValueError(reason)
            case tuple():
                return tuple(
                    state if isinstance(part, Atom) and part == SAME else part for part in result
                )
        return result

    # Steps.

    def step(self, step):
        """Takes a step; a coroutine when it has to wait."""
        kind, *arguments = (step,) if isinstance(step, str) else step
        return getattr(self, f"_{kind}")(*arguments)

    def _server(self, name):
        if isinstance(name, str):
            value = self.world.bound.get(name)
            if isinstance(value, Process):
                return value
        return name

    async def _start(self, var, init, options=(), link=False):
        options = dict(options)
        behaviour = self.world.behaviour
        module = self.world.modules[options.get("module", "default")]
        kind = Atom("start_link" if link else "start")
        try:
            started = await getattr(behaviour, kind)(
                module(self.world, var),
                init,
                name=options.get("name"),
                timeout=seconds(options.get("timeout")),
            )
        except gen.StartError as error:
            # A starter that does not trap exits ends with it in OTP, if it does not catch it here.
            dies = link and not me().trap_exit and error.reason != "normal"
            if dies and error.reason[0] != "already_started":
                raise
            self.note(kind, (Atom("error"), error.reason))
        else:
            self.note(kind, Atom("ignore") if started is None else (Atom("ok"), started))

    def _start_link(self, var, init, options=()):
        return self._start(var, init, options, link=True)

    def _spawn(self, var, steps, link=False):
        async def body():
            await Actor(self.world, var).run(steps)

        self.world.bind(var, Runtime.here().spawn(body, label=str(var), link=link))

    def _spawn_link(self, var, steps):
        self._spawn(var, steps, link=True)

    async def _ask(self, what, asked):
        try:
            self.note(what, await asked)
        except Exit as error:
            self.note(what, Atom("exit"), error.reason)

    def _call(self, server, message, *timeout):
        answer = self.world.behaviour.call(
            self._server(server), self.world.the(message), *map(seconds, timeout)
        )
        return self._ask(Atom("call"), answer)

    def _cast(self, server, message):
        self.world.behaviour.cast(self._server(server), self.world.the(message))

    def _send(self, server, message):
        gen.send(self._server(server), self.world.the(message))

    def _request(self, var, server, message):
        server = self._server(server)
        request = self.world.behaviour.send_request(server, self.world.the(message))
        self.world.bind(var, request)

    async def _response(self, var, timeout):
        try:
            answer = Atom("reply"), await self.world.bound[var].response(seconds(timeout))
        except Exit as error:
            # {Reason, {gen_server, call, [Server, Request]}} here.
            reason, (_, _, (server, _)) = error.reason
            answer = Atom("timeout") if reason == "timeout" else (Atom("error"), (reason, server))
        self.note(Atom("response"), answer)

    def _reply(self, from_, value):
        self.world.behaviour.reply(self.world.bound[from_], self.world.the(value))

    def _stop(self, server, reason="normal", timeout=None):
        async def stop():
            await self.world.behaviour.stop(
                self._server(server), self.world.the(reason), seconds(timeout)
            )
            return Atom("ok")

        return self._ask(Atom("stop"), stop())

    def _sys(self, function, server):
        return self._system(function, getattr(sys, function)(self._server(server)))

    async def _system(self, function, asked):
        async def answer():
            value = await asked
            return Atom("ok") if value is None else value

        await self._ask((Atom("sys"), Atom(function)), answer())

    def _replace_state(self, server, new):
        def change(_state):
            match new:
                case ("raise", "error", reason):
                    raise ValueError(reason)
            return new

        return self._system("replace_state", sys.replace_state(self._server(server), change))

    async def _status(self, server):
        tag, process, (_, behaviour), (_, state, parent, *_) = await sys.get_status(
            self._server(server)
        )
        self.note(tag, process, behaviour, state, parent)

    def _sys_terminate(self, server, reason):
        return self._system("terminate", sys.terminate(self._server(server), reason))

    def _change_code(self, server, old, extra):
        return self._system("change_code", sys.change_code(self._server(server), old, extra))

    def _fsm(self, function, server, event):
        getattr(self.world.behaviour, function)(self._server(server), self.world.the(event))
        self.note(Atom(function), Atom("ok"))

    def _fsm_sync(self, function, server, event, *timeout):
        send = getattr(self.world.behaviour, function)
        answer = send(self._server(server), self.world.the(event), *map(seconds, timeout))
        return self._ask(Atom(function), answer)

    def _fsm_timer(self, var, function, time, event):
        self.world.bind(var, getattr(self.world.behaviour, function)(seconds(time), event))

    def _fsm_cancel(self, var):
        left = self.world.behaviour.cancel_timer(self.world.bound[var])
        self.note(Atom("cancel_timer"), left is not None)

    def _timer(self, var, function, at, who, message):
        start, absolute = getattr(timers, function), isinstance(at, tuple)
        time, message = seconds(self.world.the(at)), self.world.the(message)
        self.world.bind(var, start(time, self._server(who), message, absolute=absolute))

    def _timers(self, function, var):
        left = getattr(timers, function)(self.world.bound[var])
        self.note(Atom(function), left is not None)

    def _exit(self, who, reason):
        self._server(who).exit(self.world.the(reason))

    def _die(self, reason):
        raise Exit(self.world.the(reason))

    def _link(self, who):
        me().link(self._server(who))

    def _unlink(self, who):
        me().unlink(self._server(who))

    def _monitor(self, var, who):
        self.world.bind(var, me().monitor(self._server(who)))

    def _demonitor(self, var):
        me().demonitor(self.world.bound[var])

    def _trap(self, flag):
        me().trap_exit = flag

    def _register(self, name):
        Runtime.here().register(name, me())

    def _keep(self, var):
        self.world.bind(var, self.from_)

    def _on(self, what, plan):
        self.plans[what] = plan

    def _note(self, term):
        self.note(Atom("note"), self.world.the(term))

    def _whereis(self, name):
        found = Runtime.here().whereis(name)
        self.note(Atom("whereis"), Atom("undefined") if found is None else found)

    def _alive(self, who):
        self.note(Atom("alive"), self._server(who).alive)

    async def _recv(self, timeout=WAIT):
        try:
            message = await me().receive(timeout)
        except TimeoutError:
            message = Atom("#nothing")
        self.note(Atom("got"), message)

    def _nothing(self):
        return self._recv(NOTHING)

    async def _busy(self):
        await asyncio.sleep(NOTHING)

    async def _ended(self, who):
        if await ended(self._server(who), WAIT) is None:
            self.note(Atom("#lives"))

    async def _until(self, name):
        async with asyncio.timeout(WAIT):
            while name not in self.world.bound:
                self.world.changed.clear()
                await self.world.changed.wait()


def seconds(timeout):
    """Seconds of OTP's milliseconds."""
    return timeout / 1000 if isinstance(timeout, int) else None
