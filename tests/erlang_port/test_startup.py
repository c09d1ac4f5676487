import os
import signal
import subprocess
import sys

from tests.erlang_port import live
from tests.support.processes import alive, wait_until


def python(code, **options):
    return subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=30, **options
    )


def test_nothing_that_is_printed_reaches_the_port():
    result = live.run("noisy.py")
    assert result["end"] == "done"
    lines = {}
    for tag, *rest in result["messages"]:
        if tag == "log":
            level, source, text = rest
            lines.setdefault((level, source), []).append(text.decode())
    out, err = lines["info", b"stdout"], lines["warning", b"stderr"]
    assert out[0] == "printed before the rest is imported"
    assert [line for line in out if line.startswith("print ")] == [f"print {n}" for n in range(50)]
    assert [line for line in out if line.startswith("printf")] == [f"printf {n}" for n in range(50)]
    assert {"raw one", "from a child"} <= set(out)
    assert {"raw two", "to stderr", "last words without a newline"} <= set(err)
    # A line is cut at 4 KiB.
    (long,) = [line for line in out if line.startswith("é")]
    assert 2000 <= len(long) <= 2048
    assert not any("garbage" in line for line in out + err)


def test_a_program_that_no_node_started_says_so():
    done = python("from erlang_port.startup import claim_port; claim_port()")
    assert done.returncode == 1
    assert "descriptors 3 and 4 are not open" in done.stderr


def test_the_service_managers_variables_are_the_nodes():
    code = (
        "import os, signal; from erlang_port import startup; startup.claim_environment();"
        "print(sorted(k for k in os.environ if 'NOTIFY' in k or 'WATCHDOG' in k),"
        " signal.getsignal(signal.SIGFPE) is signal.SIG_DFL,"
        " signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN)"
    )
    env = {**os.environ, "NOTIFY_SOCKET": "x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    # As Erlang starts it: both ignored.
    ignored = {signal.SIGFPE, signal.SIGPIPE}

    def ignore():
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    done = python(code, env=env, preexec_fn=ignore, restore_signals=False)
    assert done.stdout == "[] True True\n"


def test_a_flood_of_output_is_cut_and_counted_and_holds_nobody_up():
    code = """
import os, sys
from erlang_port.startup import OutputCapture
real = os.dup(1)
capture = OutputCapture()
capture.start()
lines = []
capture.attach(lambda level, source, text: lines.append((level, source, text)))
for n in range(100):
    print("x" * 99 * 1024 + "\\n" + "y" * 1023)
capture.stop(10)
size = sum(len(text) for _, _, text in lines)
lost = [text for level, _, text in lines if "were dropped" in text]
os.write(real, f"{size} {lost}".encode())
"""
    size, lost = python(code).stdout.split(" ", 1)
    assert int(size) < 1024 * 1024
    assert "lines" in lost
    assert "bytes) of stdout were dropped" in lost


def test_a_flood_that_does_not_end_is_reported_while_it_lasts():
    code = """
import os, time
from erlang_port.startup import OutputCapture
real = os.dup(1)
capture = OutputCapture()
capture.start()
reports = []
capture.attach(lambda level, source, text: "were dropped" in text and reports.append(text))
deadline = time.monotonic() + 20
while not reports and time.monotonic() < deadline:
    os.write(1, b"x" * 4000 + b"\\n")
os.write(real, f"{len(reports)}".encode())
"""
    assert int(python(code).stdout) >= 1


def test_after_the_end_of_the_capture_output_goes_where_it_went_before():
    code = """
import os, sys
from erlang_port.startup import OutputCapture
capture = OutputCapture()
capture.start()
lines = []
capture.attach(lambda level, source, text: lines.append(text))
print("captured")
capture.stop(10)
print(lines)
sys.stdout.flush()
os.write(2, b"y" * 1_000_000)
"""
    done = python(code)
    assert done.stdout == "['captured']\n"
    assert len(done.stderr) == 1_000_000


def test_closed_streams_are_captured_too():
    code = """
import os
os.close(1)
os.close(2)
from erlang_port.startup import OutputCapture
capture = OutputCapture()
capture.start()
lines = []
capture.attach(lambda level, source, text: lines.append((source, text)))
os.write(1, b"one\\n")
os.write(2, b"two\\n")
capture.stop(10)
assert sorted(lines) == [("stderr", "two"), ("stdout", "one")], lines
"""
    assert python(code).returncode == 0


def test_what_no_sink_took_is_kept_within_bounds_and_told_at_the_end():
    code = """
from erlang_port.startup import OutputCapture
capture = OutputCapture()
capture.start()
for n in range(150):
    print(n, "é" * 500)
capture.stop(10)
"""
    done = python(code)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert 30_000 < sum(map(len, lines)) <= 64 * 1024
    assert lines[-1] == "149 " + "é" * 500


def test_what_was_written_before_a_sink_comes_first():
    code = """
import os
from erlang_port.startup import OutputCapture
capture = OutputCapture()
capture.start()
lines = []
os.write(1, b"before\\n")
capture.attach(lambda level, source, text: lines.append(text))
os.write(1, b"after\\n")
capture.stop(10)
print(lines)
"""
    done = python(code)
    assert done.stdout == "['before', 'after']\n"
    assert done.stderr == ""


def test_a_program_dies_with_its_parent_even_when_it_is_stopped():
    code = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-I', '-c',"
        " 'from erlang_port.startup import die_with_parent; die_with_parent();"
        " print(1, flush=True); import time; time.sleep(600)'], stdout=subprocess.PIPE);"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        child = int(parent.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        assert alive(child)
        parent.kill()
        wait_until(lambda: not alive(child), 2)
