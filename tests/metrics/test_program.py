import os
import time

from metrics.program import ProgramCollector, cpu_seconds, resident_memory
from metrics.registry import new_registry
from tests.support.processes import resident_bytes


def test_resident_memory_is_the_kernel_s() -> None:
    seen = resident_bytes(os.getpid())
    assert abs(resident_memory() - seen) < 16 * 1024 * 1024
    assert resident_memory(os.getpid()) > 1024 * 1024


def test_a_process_that_is_gone_has_none() -> None:
    assert resident_memory(2**22 + 1) == 0
    assert cpu_seconds(2**22 + 1) == 0


def test_processor_time_is_the_kernel_s() -> None:
    before = cpu_seconds(os.getpid())
    spent = time.process_time()
    while time.process_time() - spent < 0.2:
        sum(range(1000))
    times = os.times()
    after = cpu_seconds(os.getpid())
    assert after - before > 0.15
    assert abs(after - times.user - times.system) < 0.1


def test_the_process_itself() -> None:
    registry = new_registry()
    before = time.time()
    ProgramCollector(registry, "1.2.3")
    names = {s.labels.get("version") for f in registry.collect() for s in f.samples}
    assert "1.2.3" in names
    started = registry.get_sample_value("megaphone_port_program_start_time_seconds")
    assert started is not None
    assert before <= started <= time.time()
    cpu = registry.get_sample_value("megaphone_port_program_cpu_seconds_total")
    assert cpu is not None
    assert cpu > 0
