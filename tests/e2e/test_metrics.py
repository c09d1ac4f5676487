"""What a live node's /metrics shows, beside what the node itself says."""

import asyncio
import collections
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.metrics import attached_url, scraped, scraped_until
from tests.e2e.support import ENVIRONMENT, SLOW, attach, connected, ended, get, start_broadcast
from tests.support.processes import resident_bytes
from tests.support.tools import require_tool

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
#: A metric's row in a table of docs/metrics.md: its name and its type.
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def node(start_session_node):
    node = start_session_node(hosts=("localhost", "a.test"), environment=ENVIRONMENT)
    attach(node, sample_interval=1, reconciliation_interval=1)
    return node


async def test_what_is_documented_is_what_a_live_node_shows(node):
    url = await attached_url(node)
    documented = dict(ROW.findall(DOCS.read_text()))
    detailed = scraped(url, "/metrics/detailed").kinds
    # Some samples take their time.
    found = await scraped_until(
        url, lambda scrape: (scrape.kinds | detailed).keys() >= documented.keys()
    )
    assert found.kinds | detailed == documented
    assert found.kinds.keys() & detailed.keys() == {"megaphone_up"}


@pytest.mark.parametrize("path", ["/metrics", "/metrics/detailed"])
async def test_promtool_has_nothing_to_say(node, path):
    promtool = require_tool("promtool")
    url = await attached_url(node)
    _, body = get(f"{url}{path}")
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


async def test_no_metric_has_more_than_ten_label_combinations(node):
    url = await attached_url(node)
    series = collections.Counter(name for name, *_ in scraped(url).values)
    # A histogram's buckets are its own: of one stage, or of what has no stages.
    assert {name: n for name, n in series.items() if n > 10 and not name.endswith("_bucket")} == {}


async def test_samples_are_taken_again_and_again(node):
    url = await attached_url(node)
    kinds = ["sessions", "mailboxes", "registered", "tables", "schedulers", "machine"]

    def young(scrape):
        ages = [scrape.get("megaphone_node_sample_age_seconds", kind) for kind in kinds]
        return all(age is not None and age < 3 for age in ages)

    await scraped_until(url, young)
    # Longer than an interval later they are no older, on a busy machine a little later: a sample
    # rests 99 times as long as it has worked.
    begun = scraped(url)["megaphone_node_uptime_seconds"]
    scrape = await scraped_until(
        url, lambda s: s["megaphone_node_uptime_seconds"] > begun + 4 and young(s)
    )
    descriptors = len(list(Path(f"/proc/{node.pid}/fd").iterdir()))
    assert abs(scrape["megaphone_vm_file_descriptors"] - descriptors) < 10
    assert scrape["megaphone_vm_file_descriptors_limit"] > descriptors
    assert 0 <= scrape["megaphone_vm_scheduler_utilization_ratio", "normal"] <= 1
    assert scrape["megaphone_cluster_nodes", "running"] == 1
    assert scrape["megaphone_system_memory_available_bytes"] > 0


async def test_the_longest_mailbox_and_its_name(node):
    url = await attached_url(node)
    node.eval(
        "begin P = spawn(fun() -> receive stop -> ok end end), register(stuck, P),"
        " [P ! N || N <- lists:seq(1, 777)], ok end"
    )
    await scraped_until(url, lambda scrape: scrape["megaphone_vm_mailbox_messages_max"] == 777)
    stuck = ("megaphone_detailed_mailbox_messages", "stuck")
    await scraped_until(url, lambda s: s.get(*stuck) == 777, path="/metrics/detailed")
    node.eval("stuck ! stop, exit(whereis(stuck), kill)")
    await scraped_until(url, lambda scrape: scrape["megaphone_vm_mailbox_messages_max"] < 777)


async def test_mnesia_says_that_it_is_overloaded(node):
    url = await attached_url(node)
    events = "megaphone_mnesia_overload_events_total"
    before = scraped(url)[events]
    node.eval(
        "mnesia_lib:report_system_event({mnesia_overload, {mnesia_tm, message_queue_len, [1, 2]}})"
    )
    await scraped_until(url, lambda scrape: scrape[events] == before + 1)


async def test_a_broadcast_in_all_its_stages(node, xmpp):
    url = await attached_url(node)
    before = scraped(url)
    clients = [await xmpp(node, f"user{n}", resource="phone") for n in range(3)]
    broadcast = await asyncio.to_thread(start_broadcast, node, "Hello {{ user }}")
    await ended(node, broadcast)
    for client in clients:
        await client.wait_for(1)
    after = scraped(url)

    def more(*key):
        return after[key] - before[key]

    assert more("megaphone_broadcasts_finished_total", "done") == 1
    assert more("megaphone_recipients_total", "sent") == 3
    for stage in ("resolve", "queue", "format", "route"):
        assert more("megaphone_batch_stage_seconds_count", stage) == 1
    assert more("megaphone_batches_total", "done") == 1
    assert after["megaphone_broadcasts", "running"] == 0


async def test_a_broadcast_that_runs_and_one_that_fails(node, xmpp):
    url = await attached_url(node)
    await xmpp(node, "alice", resource="phone")
    before = scraped(url)
    broadcast = await asyncio.to_thread(start_broadcast, node, SLOW)
    await scraped_until(url, lambda scrape: scrape["megaphone_broadcasts", "running"] == 1)
    node.eval(
        "exit(hd([P || {_, P, _, _} <- supervisor:which_children(megaphone_fanout_sup)]), kill)"
    )
    await ended(node, broadcast)
    failed = ("megaphone_broadcasts_finished_total", "failed")
    await scraped_until(url, lambda scrape: scrape[failed] == before[failed] + 1)


async def test_workers_and_the_runtime(node):
    url = await attached_url(node)
    scrape = scraped(url)
    (worker, *_) = connected(node)["bridge"]["workers"]
    memory = scrape["megaphone_worker_resident_memory_bytes", "1"]
    assert memory == pytest.approx(resident_bytes(worker["pid"]), rel=0.1)
    assert scrape["megaphone_worker_cpu_seconds_total", "1"] > 0
    assert scrape["megaphone_otp_processes"] > 3
    restarts = ("megaphone_supervisor_restarts_total", "workers")
    os.kill(worker["pid"], signal.SIGKILL)
    after = await scraped_until(url, lambda s: s[restarts] == scrape[restarts] + 1)
    spent = ("megaphone_worker_cpu_seconds_total", "1")
    assert after[spent] >= scrape[spent]
