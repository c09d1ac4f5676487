"""A supervisor against a model: who is there, who runs, who started and ended in which order."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from erlang_port.otp import gen, supervisor
from erlang_port.otp.runtime import Runtime
from erlang_port.otp.supervisor import ChildError, Flags, Tree
from tests.erlang_port.otp.processes import Probe, turns

INTENSITY = 4
IDS = st.sampled_from("abcd")
RESTARTS = st.sampled_from(["permanent", "transient", "temporary"])
REASONS = st.sampled_from(["normal", "shutdown", "crash", "killed"])


@dataclass
class Model:
    """What supervisor(3) says."""

    strategy: str
    alive: bool = True
    #: In the order of starting: whether it is running, and its restart type.
    running: dict[str, bool] = field(default_factory=dict)
    restart: dict[str, str] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    restarts: int = 0
    events: list[str] = field(default_factory=list)

    def start(self, name):
        if self.failures.get(name):
            self.failures[name] -= 1
            self.events.append(f"!{name}")
            return False
        self.events.append(f"+{name}")
        self.running[name] = True
        return True

    def start_child(self, name, restart):
        if name in self.running:
            return "already_started" if self.running[name] else "already_present"
        self.restart[name] = restart
        if not self.start(name):
            return "failed"
        return None

    def restart_child(self, name):
        if name not in self.running:
            return "not_found"
        if self.running[name]:
            return "running"
        return None if self.start(name) else "failed"

    def delete_child(self, name):
        if name not in self.running:
            return "not_found"
        if self.running[name]:
            return "running"
        del self.running[name]
        return None

    def terminate_child(self, name):
        if name not in self.running:
            return "not_found"
        self.stop([name])
        return None

    def stop(self, names):
        for name in reversed(names):
            if self.running[name]:
                self.events.append(f"-{name}")
            self.gone(name)

    def gone(self, name):
        if self.restart[name] == "temporary":
            del self.running[name]
        else:
            self.running[name] = False

    def end(self, name, reason):
        self.events.append(f"-{name}")
        bad = reason not in {"normal", "shutdown"}
        again = {"permanent": True, "transient": bad, "temporary": False}[self.restart[name]]
        if not again:
            self.gone(name)
            return
        self.running[name] = False
        failed = name
        while failed is not None:
            self.restarts += 1
            if self.restarts > INTENSITY:
                self.stop(list(self.running))
                self.alive = False
                return
            failed = self.start_again(failed)

    def start_again(self, name):
        every = list(self.running)
        affected = {
            "one_for_one": [name],
            "one_for_all": every,
            "rest_for_one": every[every.index(name) :],
        }[self.strategy]
        self.stop(affected)
        for one in affected:
            if one in self.running and not self.start(one):
                return one
        return None


class SupervisorMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.probe = Probe()

    @initialize(
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        children=st.lists(st.tuples(IDS, RESTARTS), min_size=2, unique_by=lambda child: child[0]),
    )
    def begin(self, strategy, children):
        self.model = Model(strategy)
        for name, restart in children:
            assert self.model.start_child(name, restart) is None
        flags = Flags(strategy, INTENSITY, period=1e6)
        specs = [self.probe.child(name, restart=restart) for name, restart in children]
        self.top = self.run(supervisor.start(Tree("s", flags, specs)))

    def run(self, coroutine):
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 5))

    def ask(self, request, expected):
        """Asks, and compares how it was refused, if it was."""
        try:
            self.run(request)
        except ChildError as error:
            reason = error.reason
            if isinstance(reason, tuple):
                reason = reason[0]
            assert reason == ("broken" if expected == "failed" else expected)
        else:
            assert expected is None

    @precondition(lambda self: self.model.alive)
    @rule(name=IDS, restart=RESTARTS)
    def start_child(self, name, restart):
        expected = self.model.start_child(name, restart)
        child = self.probe.child(name, restart=restart)
        self.ask(supervisor.start_child(self.top, child), expected)

    @precondition(lambda self: self.model.alive)
    @rule(name=IDS)
    def terminate_child(self, name):
        expected = self.model.terminate_child(name)
        self.ask(supervisor.terminate_child(self.top, name), expected)

    @precondition(lambda self: self.model.alive)
    @rule(name=IDS)
    def restart_child(self, name):
        expected = self.model.restart_child(name)
        self.ask(supervisor.restart_child(self.top, name), expected)

    @precondition(lambda self: self.model.alive)
    @rule(name=IDS)
    def delete_child(self, name):
        self.ask(supervisor.delete_child(self.top, name), self.model.delete_child(name))

    @rule(name=IDS, times=st.integers(0, 2))
    def fail(self, name, times):
        """Its next starts fail."""
        self.model.failures[name] = times
        self.probe.failures[name] = ["broken"] * times

    @precondition(lambda self: any(self.model.running.values()))
    @rule(data=st.data(), reason=REASONS)
    def end(self, data, reason):
        """A child that runs ends."""
        running = sorted(name for name, runs in self.model.running.items() if runs)
        name = data.draw(st.sampled_from(running))
        self.model.end(name, reason)
        self.probe.end(name, reason)
        self.run(self.settled())

    async def settled(self):
        # All that happens on the loop follows from what is there: nothing waits for a time.
        await turns(40)

    @invariant()
    def nothing_else_happened(self):
        if not hasattr(self, "top"):
            return
        assert self.probe.events == self.model.events
        assert self.top.alive == self.model.alive

    @invariant()
    def who_is_there_is_who_should_be(self):
        if not (hasattr(self, "top") and self.top.alive):
            return
        children = self.run(supervisor.which_children(self.top))
        expected = [
            (name, self.probe.processes[name] if runs else None)
            for name, runs in reversed(self.model.running.items())
        ]
        assert [(info.id, info.child) for info in children] == expected
        counts = self.run(supervisor.count_children(self.top))
        assert counts[:2] == (len(expected), sum(self.model.running.values()))

    def teardown(self):
        if hasattr(self, "top") and self.top.alive:
            self.model.stop(list(self.model.running))
            self.run(gen.stop(self.top, "shutdown", 5))
            self.run(self.settled())
            assert self.probe.events == self.model.events
        if hasattr(self, "top"):
            assert self.run(living()) == set()
        self.loop.close()


async def living():
    return set(Runtime.here().processes.values())


TestSupervisor = SupervisorMachine.TestCase
TestSupervisor.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
