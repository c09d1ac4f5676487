import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from metrics.registry import new_registry
from metrics.worker_processes import WorkerProcessCollector
from tests.support.processes import resident_bytes

MEMORY = "megaphone_worker_resident_memory_bytes"
CPU = "megaphone_worker_cpu_seconds_total"

#: Works for a while, says so, and waits.
WORKS = (
    "import time, sys\nwhile time.process_time() < 0.2: pass\nprint(flush=True); sys.stdin.read()"
)


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", WORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_memory_and_processor_time_of_a_worker(worker: subprocess.Popen[bytes]) -> None:
    registry = new_registry()
    WorkerProcessCollector(registry, lambda: [None, worker.pid])
    labels = {"worker": "2"}
    memory = registry.get_sample_value(MEMORY, labels)
    assert memory is not None
    assert abs(memory - resident_bytes(worker.pid)) < 4 * 1024 * 1024
    cpu = registry.get_sample_value(CPU, labels)
    assert cpu is not None
    assert 0.15 < cpu < 5
    assert registry.get_sample_value(MEMORY, {"worker": "1"}) == 0
    assert registry.get_sample_value(CPU, {"worker": "1"}) == 0


def test_processor_time_never_goes_back(worker: subprocess.Popen[bytes]) -> None:
    """A worker ends, there is none for a while, another takes its place."""
    registry = new_registry()
    pids: list[int | None] = [worker.pid]
    WorkerProcessCollector(registry, lambda: pids)

    def spent() -> float:
        value = registry.get_sample_value(CPU, {"worker": "1"})
        assert value is not None
        return value

    first = spent()
    worker.kill()
    worker.wait()
    # It is gone, and the pool does not know yet.
    assert spent() == first
    pids[0] = None
    assert spent() == first
    pids[0] = os.getpid()
    assert spent() >= first + time.process_time() - 0.2
    both = spent()
    assert spent() >= both


def test_no_more_than_ten_label_combinations() -> None:
    registry = new_registry()
    pids: list[int | None] = [os.getpid()] * 10
    WorkerProcessCollector(registry, lambda: pids)

    def workers() -> list[str]:
        (family,) = [f for f in registry.collect() if f.name == MEMORY]
        return [sample.labels["worker"] for sample in family.samples]

    assert workers() == [str(n) for n in range(1, 11)]
    pids += [os.getpid()] * 246
    assert workers() == [*(str(n) for n in range(1, 10)), "other"]
    others = registry.get_sample_value(MEMORY, {"worker": "other"})
    one = registry.get_sample_value(MEMORY, {"worker": "1"})
    assert others is not None
    assert one is not None
    assert others == pytest.approx(247 * one, rel=0.2)
