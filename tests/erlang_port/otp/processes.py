"""Runs tests as processes, and children that note what happens to them."""

import asyncio
import functools

from erlang_port.otp.child_spec import ChildSpec
from erlang_port.otp.gen import StartError
from erlang_port.otp.reasons import Exit
from erlang_port.otp.runtime import Runtime, self


def as_process(test):
    """Runs a test as a process that traps exits; within ten seconds."""

    @functools.wraps(test)
    async def run(*args, **kwargs):
        outcome = asyncio.get_running_loop().create_future()

        async def body():
            try:
                outcome.set_result(await test(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # the test's own, a failure included
                outcome.set_exception(error)

        process = Runtime.here().spawn(body, label="test", trap_exit=True)
        try:
            return await asyncio.wait_for(outcome, 10)
        finally:
            process.exit("kill")

    return run


async def turns(count=10):
    """Lets everything that is ready on the loop run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def exit_of(process):
    """The reason in the exit signal of a process, which comes before any other message."""
    tag, sender, reason = await self().receive(5)
    assert (tag, sender) == ("EXIT", process)
    return reason


class Probe:
    """Children that note their starts and ends, and end when told."""

    def __init__(self):
        self.events = []
        self.mark = 0
        self.processes = {}
        #: How the next starts of a child fail: reasons.
        self.failures = {}
        self._changed = asyncio.Event()

    def note(self, what):
        self.events.append(what)
        self._changed.set()

    async def _start(self, name, *_):
        if self.failures.get(name):
            self.note(f"!{name}")
            raise StartError(self.failures[name].pop(0))
        self.note(f"+{name}")

        async def body():
            match await self_of.receive():
                case ("EXIT", _, reason) | ("end", reason):
                    self.note(f"-{name}")
                    raise Exit(reason)

        self_of = Runtime.here().spawn(body, label=name, link=True, trap_exit=True)
        self.processes[name] = self_of
        return self_of

    def child(self, name, **options):
        return ChildSpec(name, self._start, (name,), **options)

    def children(self, names, **options):
        return [self.child(name, **options) for name in names]

    def end(self, name, reason="crash"):
        """Ends a child; `news` begins here."""
        self.mark = len(self.events)
        self.processes[name].send(("end", reason))

    @property
    def news(self):
        return self.events[self.mark :]

    async def until(self, *events):
        """Waits for these, and nothing else, since the last `end`."""
        async with asyncio.timeout(5):
            while self.news != list(events):
                self._changed.clear()
                await self._changed.wait()
