"""What a live node's /metrics shows, beside what the node itself says."""

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.metrics import attached_url, scraped
from tests.e2e.support import ENVIRONMENT, attach, get
from tests.support.tools import require_tool

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
#: A metric's row in a table of docs/metrics.md: its name and its type.
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def node(start_session_node):
    node = start_session_node(hosts=("localhost", "a.test"), environment=ENVIRONMENT)
    attach(node)
    return node


async def test_what_is_documented_is_what_a_live_node_shows(node):
    url = await attached_url(node)
    assert scraped(url).kinds == dict(ROW.findall(DOCS.read_text()))


async def test_promtool_has_nothing_to_say(node):
    promtool = require_tool("promtool")
    url = await attached_url(node)
    _, body = get(f"{url}/metrics")
    check = await asyncio.to_thread(
        subprocess.run,
        [promtool, "check", "metrics"],
        input=body,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, b"")


async def test_the_figures_are_the_node_s(node):
    url = await attached_url(node)
    scrape = scraped(url)
    assert scrape["megaphone_up"] == 1
    for metric, expression in [
        ("megaphone_vm_processes_limit", "erlang:system_info(process_limit)"),
        ("megaphone_vm_ports_limit", "erlang:system_info(port_limit)"),
        ("megaphone_vm_atoms_limit", "erlang:system_info(atom_limit)"),
        ("megaphone_vm_schedulers_online", "erlang:system_info(schedulers_online)"),
    ]:
        assert scrape[metric] == int(node.eval(expression))
    processes = int(node.eval("erlang:system_info(process_count)"))
    assert abs(scrape["megaphone_vm_processes"] - processes) < 20
    memory = sum(v for (n, *_), v in scrape.values.items() if n == "megaphone_vm_memory_bytes")
    assert memory == pytest.approx(int(node.eval("erlang:memory(total)")), rel=0.1)
    release = node.eval("erlang:system_info(otp_release)").strip('"')
    (info,) = [labels for (n, *labels) in scrape.values if n == "megaphone_node_info"]
    assert {node.name, release} <= set(info)
