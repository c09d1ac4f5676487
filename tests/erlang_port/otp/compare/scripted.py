"""Callback modules whose callbacks do what their messages say, as scripted_*.erl are."""

from erlang_port.etf import Atom
from erlang_port.otp import gen_fsm, gen_server, gen_statem
from tests.erlang_port.otp.compare.actors import Actor, seconds


def then_of(then):
    """What stands after the state."""
    match then:
        case ():
            return None
        case (("continue", content),):
            return gen_server.Continue(content)
        case ("hibernate",):
            return gen_server.Hibernate()
        case (time,):
            return seconds(time)


def server_result(result):
    """A result of OTP's as one of Python's; what is none stays as it is."""
    match result:
        case ("ok", state, *then):
            return gen_server.Ok(state, then_of(tuple(then)))
        case "ignore":
            return gen_server.Ignore()
        case ("reply", value, state, *then):
            return gen_server.Reply(value, state, then_of(tuple(then)))
        case ("noreply", state, *then):
            return gen_server.NoReply(state, then_of(tuple(then)))
        case ("stop", reason):
            return gen_server.Stop(reason)
        case ("stop", reason, state):
            return gen_server.Stop(reason, state)
        case ("stop", reason, value, state):
            return gen_server.StopReply(reason, value, state)
    return result


def converted(result, convert):
    """The result of a plan, which may have to be waited for, as a behaviour takes it."""
    if not hasattr(result, "__await__"):
        return convert(result)

    async def wait():
        return convert(await result)

    return wait()


class BareServer(gen_server.GenServer):
    """A gen_server without a callback but init."""

    def __init__(self, world, name):
        self.world = world
        self.name = name

    def init(self, args):
        self.actor = Actor(self.world, self.name)
        return converted(self.actor.plan(args, None), server_result)


class ScriptedServer(BareServer):
    def init(self, args):
        self.actor = Actor(self.world, self.name)
        self.actor.note(Atom("init"))
        return converted(self.actor.plan(args, None), server_result)

    def _plan(self, plan, state):
        return converted(self.actor.plan(plan, state), server_result)

    def handle_call(self, message, from_, state):
        self.actor.keep(from_)
        self.actor.note(Atom("handle_call"), from_.pid, state)
        return self._plan(message, state)

    def handle_cast(self, message, state):
        self.actor.note(Atom("handle_cast"), state)
        return self._plan(message, state)

    def handle_info(self, info, state):
        match info:
            case ("do", _, _):
                self.actor.note(Atom("handle_info"), state)
                return self._plan(info, state)
            case "timeout":
                what = "timeout"
            case _:
                what = "info"
        self.actor.note(Atom("handle_info"), info, state)
        default = (Atom("noreply"), state)
        return converted(self.actor.on(what, state, default), server_result)

    def handle_continue(self, content, state):
        self.actor.note(Atom("handle_continue"), state)
        return self._plan(content, state)

    def terminate(self, reason, state):
        self.actor.note(Atom("terminate"), reason, state)
        return self.actor.on("terminate", state, Atom("ok"))

    def code_change(self, old_version, state, extra):
        self.actor.note(Atom("code_change"), old_version, state)
        # {ok, State} there.
        return converted(self.actor.plan(extra, state), lambda result: result[1])


def time_of(time):
    """Seconds, and what is no time as it is."""
    return seconds(time) if time == "infinity" or isinstance(time, int) else time


def is_absolute(options=()):
    """What the options of a timeout say: one or a list."""
    return ("abs", True) in (options if isinstance(options, list) else [options])


def action(action):  # noqa: C901  # a case for each
    """An action of OTP's as one of Python's."""
    match action:
        case ("reply", from_, value):
            return gen_statem.Reply(from_, value)
        case "postpone":
            return gen_statem.Postpone()
        case ("postpone", bool(postpone)):
            return gen_statem.Postpone(postpone)
        case ("next_event", type_, content):
            return gen_statem.NextEvent(type_, content)
        case "hibernate":
            return gen_statem.Hibernate()
        case ("hibernate", bool(hibernate)):
            return gen_statem.Hibernate(hibernate)
        case (timeout, "cancel"):
            return gen_statem.Cancel(timeout)
        case (timeout, "update", content):
            return gen_statem.Update(timeout, content)
        case ("state_timeout", time, content, *options):
            return gen_statem.StateTimeout(time_of(time), content, is_absolute(*options))
        case ("timeout", time, content, *options):
            return gen_statem.EventTimeout(time_of(time), content, is_absolute(*options))
        case (("timeout", name), time, content, *options):
            return gen_statem.Timeout(name, time_of(time), content, is_absolute(*options))
    return action


def actions(given):
    """The actions at the end of a result: none, several, or one alone."""
    match given:
        case ():
            return ()
        case (list(several),):
            return [action(one) for one in several]
        case (one,):
            return action(one)


def statem_result(result):  # noqa: C901  # a case for each
    """A result of OTP's as one of Python's; what is none stays as it is."""
    match result:
        case ("ok", state, data, *given):
            return gen_statem.Ok(state, data, actions(tuple(given)))
        case "ignore":
            return gen_statem.Ignore()
        case ("next_state", state, data, *given):
            return gen_statem.NextState(state, data, actions(tuple(given)))
        case ("keep_state", data, *given):
            return gen_statem.KeepState(data, actions(tuple(given)))
        case "keep_state_and_data":
            return gen_statem.KeepStateAndData()
        case ("keep_state_and_data", given):
            return gen_statem.KeepStateAndData(actions((given,)))
        case ("repeat_state", data, *given):
            return gen_statem.RepeatState(data, actions(tuple(given)))
        case "repeat_state_and_data":
            return gen_statem.RepeatStateAndData()
        case ("repeat_state_and_data", given):
            return gen_statem.RepeatStateAndData(actions((given,)))
        case "stop":
            return gen_statem.Stop()
        case ("stop", *given):
            return gen_statem.Stop(*given)
        case ("stop_and_reply", reason, replies, *data):
            return gen_statem.StopAndReply(reason, actions((replies,)), *data)
    return result


class ScriptedStatem(gen_statem.GenStatem):
    def __init__(self, world, name):
        self.world = world
        self.name = name

    def init(self, args):
        self.actor = Actor(self.world, self.name)
        self.actor.note(Atom("init"))

        def convert(result):
            modes = self.actor.plans.get("mode", "handle_event_function")
            modes = modes if isinstance(modes, list) else [modes]
            self.callback_mode, self.state_enter = modes[0], "state_enter" in modes
            return statem_result(result)

        return converted(self.actor.plan(args, None), convert)

    def handle_event(self, event_type, content, state, data):
        keep = Atom("keep_state_and_data")
        if event_type == "enter":
            self.actor.note(event_type, content, state, data)
            result = self.actor.on((Atom("enter"), state), data, keep)
            return converted(result, statem_result)
        noted = event_type
        match event_type:
            case ("call", from_):
                self.actor.keep(from_)
                noted = event_type[0], from_.pid
        match content:
            case ("ev", label, plan):
                self.actor.note(noted, label, state, data)
                if isinstance(plan, list):
                    plan = dict(plan).get(state, keep)
                return converted(self.actor.plan(plan, data), statem_result)
        self.actor.note(noted, content, state, data)
        return converted(self.actor.on("info", data, keep), statem_result)

    def a(self, event_type, content, data):
        return self.handle_event(event_type, content, Atom("a"), data)

    def b(self, event_type, content, data):
        return self.handle_event(event_type, content, Atom("b"), data)

    def c(self, event_type, content, data):
        return self.handle_event(event_type, content, Atom("c"), data)

    def terminate(self, reason, state, data):
        self.actor.note(Atom("terminate"), reason, state, data)
        return self.actor.on("terminate", data, Atom("ok"))

    def code_change(self, old_version, state, data, extra):
        self.actor.note(Atom("code_change"), old_version, state, data)
        return converted(self.actor.plan(extra, data), lambda result: result[1:])


def then_of_fsm(then):
    return gen_fsm.Hibernate() if then == "hibernate" else seconds(then)


def fsm_result(result):
    """A result of OTP's as one of Python's; what is none stays as it is."""
    match result:
        case ("ok", state, data, *then):
            return gen_fsm.Ok(state, data, *map(then_of_fsm, then))
        case "ignore":
            return gen_fsm.Ignore()
        case ("next_state", state, data, *then):
            return gen_fsm.NextState(state, data, *map(then_of_fsm, then))
        case ("reply", value, state, data, *then):
            return gen_fsm.Reply(value, state, data, *map(then_of_fsm, then))
        case ("stop", reason, value, data):
            return gen_fsm.StopReply(reason, value, data)
        case ("stop", *given):
            return gen_fsm.Stop(*given)
    return result


class ScriptedFsm(gen_fsm.GenFsm):
    def __init__(self, world, name):
        self.world = world
        self.name = name

    def init(self, args):
        self.actor = Actor(self.world, self.name)
        self.actor.note(Atom("init"))
        return converted(self.actor.plan(args, None), fsm_result)

    def _event(self, kind, event, state, data):
        state, kind = Atom(state), Atom(kind) if isinstance(kind, str) else kind
        stay = (Atom("next_state"), state, data)
        match event:
            case ("ev", label, plan):
                self.actor.note(kind, label, state, data)
            case ("timeout" as tag, timer, ("ev", label, plan)):
                self.actor.note(kind, (tag, timer, label), state, data)
            case _:
                self.actor.note(kind, event, state, data)
                return converted(self.actor.on(event, data, stay), fsm_result)
        if isinstance(plan, list):
            plan = dict(plan).get(state, stay)
        return converted(self.actor.plan(plan, data), fsm_result)

    def _sync(self, kind, event, from_, state, data):
        self.actor.keep(from_)
        return self._event((Atom(kind), from_.pid), event, state, data)

    def a(self, event, data):
        return self._event("event", event, "a", data)

    def b(self, event, *rest):
        # One function for b/2 and b/3.
        if len(rest) == 1:
            return self._event("event", event, "b", *rest)
        from_, data = rest
        return self._sync("sync_event", event, from_, "b", data)

    def a_sync(self, event, from_, data):
        return self._sync("sync_event", event, from_, "a", data)

    def handle_event(self, event, state, data):
        return self._event("handle_event", event, state, data)

    def handle_sync_event(self, event, from_, state, data):
        return self._sync("handle_sync_event", event, from_, state, data)

    def handle_info(self, info, state, data):
        self.actor.note(Atom("handle_info"), info, state, data)
        stay = (Atom("next_state"), state, data)
        return converted(self.actor.on("info", data, stay), fsm_result)

    def terminate(self, reason, state, data):
        self.actor.note(Atom("terminate"), reason, state, data)
        return self.actor.on("terminate", data, Atom("ok"))

    def code_change(self, old_version, state, data, extra):
        self.actor.note(Atom("code_change"), old_version, state, data)
        return converted(self.actor.plan(extra, data), lambda result: result[1:])


FSMS = {"default": ScriptedFsm}

STATEMS = {"default": ScriptedStatem}

SERVERS = {"default": ScriptedServer, "bare_server": BareServer}
