"""Callback modules whose callbacks do what their messages say, as scripted_*.erl are."""

from erlang_port.etf import Atom
from erlang_port.otp import gen_server
from tests.erlang_port.otp.compare.actors import Actor, seconds


def then_of(then):
    """What stands after the state."""
    match then:
        case ():
            return None
        case (("continue", content),):
            return gen_server.Continue(content)
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


SERVERS = {"default": ScriptedServer, "bare_server": BareServer}
