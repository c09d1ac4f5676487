import subprocess
import sys


def test_they_cost_a_worker_and_the_port_program_no_import() -> None:
    code = "import bridge.fanout.limits, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert not {"jinja2", "aiohttp", "erlang_port"} & set(done.stdout.split())
