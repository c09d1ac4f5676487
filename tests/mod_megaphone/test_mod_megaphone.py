"""The package on a real node: ejabberd's own module_install, reload, upgrade and uninstall.

The port program is the stand-in `programs/answers`, so that only the Erlang end is under test.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.embedded_node import EmbeddedNode
from bridge.resources import mod_megaphone_source
from bridge.version import __version__
from tests.support.logs import errors, log
from tests.support.processes import alive, wait_until

PROGRAM = Path(__file__).parent / "programs" / "answers"
CONTRIBUTED = "modules/mod_megaphone/conf/mod_megaphone.yml"
#: Names of everything that the package may leave in a node.
LEFTOVERS = """
    {[P || P <- registered(), lists:prefix("megaphone", atom_to_list(P))],
     [M || {M, _} <- code:all_loaded(), lists:prefix("megaphone", atom_to_list(M))],
     [C || {C, _, _} <- ejabberd_commands:list_commands(),
           lists:prefix("megaphone", atom_to_list(C))],
     [Id || {Id, _, _, _} <- supervisor:which_children(ejabberd_gen_mod_sup),
            lists:prefix("megaphone", atom_to_list(Id))],
     [K || {K, _} <- persistent_term:get(),
           Name <- case K of {N, _} -> [N]; _ -> [K] end, is_atom(Name),
           Name =:= mod_megaphone orelse lists:prefix("megaphone", atom_to_list(Name))],
     [Hook || {Hook, Calls} <- ets:tab2list(hooks), {_, M, _} <- Calls,
              lists:prefix("megaphone", atom_to_list(M))]}
"""

#: Has the program start a process, and somebody call it who waits for ever.
START = """
    begin {ok, {ok, _}} = megaphone_port:call(<<"ask">>, {<<"processes">>,
              {start, 1, [{local, <<"shouter">>}, {global, <<"shouter">>}]}}, 5000),
          spawn(fun() -> catch megaphone:call(shouter, mute, infinity) end), ok end
"""


def evaluate(node: EmbeddedNode, expression: str) -> str:
    return re.sub(r"\s+", "", node.eval(expression))


def write_package(node: EmbeddedNode, options: dict[str, object]) -> Path:
    """The sources where module_install looks for them, with options of the test's own."""
    sources = node.directory / "modules" / "sources" / "mod_megaphone"
    shutil.copytree(mod_megaphone_source(), sources)
    lines = [f"    {name}: {value}" for name, value in options.items()]
    (sources / "conf" / "mod_megaphone.yml").write_text(
        "\n".join(["modules:", "  mod_megaphone:", *lines, ""]), encoding="utf-8"
    )
    return sources


def port(node: EmbeddedNode, key: str) -> str:
    return evaluate(node, f'maps:get(<<"{key}">>, megaphone_port:status())')


def connected(node: EmbeddedNode) -> bool:
    return port(node, "state") == '<<"connected">>'


@pytest.fixture
def attached(start_node: Callable[..., EmbeddedNode]) -> EmbeddedNode:
    node = start_node(hosts=("localhost", "a.test", "b.test"))
    write_package(node, {"python": PROGRAM})
    node.ctl("module_install", "mod_megaphone")
    wait_until(lambda: connected(node))
    return node


def error_lines(node: EmbeddedNode) -> list[str]:
    """The log's errors, each with the lines that follow it."""
    return errors(log(node))


def test_one_tree_whatever_the_number_of_vhosts(attached: EmbeddedNode) -> None:
    loaded = "[H || H <- ejabberd_option:hosts(), gen_mod:is_loaded(H, mod_megaphone)]"
    assert evaluate(attached, f"length({loaded})") == "3"
    first = port(attached, "os_pid")

    attached.reconfigure(hosts=("localhost", "a.test", "b.test", "c.test"))
    assert evaluate(attached, f"length({loaded})") == "4"
    attached.reconfigure(hosts=("localhost", "c.test"))
    assert evaluate(attached, f"length({loaded})") == "2"

    assert connected(attached)
    assert port(attached, "os_pid") == first
    assert port(attached, "restarts") == "0"
    assert evaluate(attached, LEFTOVERS).count("megaphone_keeper") >= 1
    assert error_lines(attached) == []


def test_commands_are_registered_once_and_answer(attached: EmbeddedNode) -> None:
    assert '"connected"' in attached.ctl("megaphone_status").stdout
    assert "already exists" not in log(attached)


def test_uninstall_leaves_nothing(start_node: Callable[..., EmbeddedNode]) -> None:
    node = start_node(hosts=("localhost", "a.test"))
    children = "lists:sort([Id || {Id,_,_,_} <- supervisor:which_children(ejabberd_gen_mod_sup)])"
    before = evaluate(node, children)
    write_package(node, {"python": PROGRAM})
    processes = []
    for _ in range(3):
        node.ctl("module_install", "mod_megaphone")
        wait_until(lambda: connected(node))
        program = int(port(node, "os_pid"))
        # A Python process with names, and a caller that waits for it.
        assert evaluate(node, START) == "ok"
        assert evaluate(node, "is_pid(whereis(shouter))") == "true"
        assert port(node, "processes") == "1"
        node.ctl("module_uninstall", "mod_megaphone")
        names = "{whereis(shouter),global:whereis_name(shouter)}"
        assert evaluate(node, names) == "{undefined,undefined}"
        assert not alive(program)
        assert evaluate(node, LEFTOVERS) == "{[],[],[],[],[],[]}"
        assert evaluate(node, children) == before
        processes.append(int(evaluate(node, "erlang:system_info(process_count)")))
    assert max(processes[1:]) <= processes[0] + 5
    assert error_lines(node) == []


def test_modules_of_others_stay_loaded(attached: EmbeddedNode) -> None:
    loaded = "code:is_loaded(megaphone_of_somebody_else)"
    attached.eval(
        "{ok, M, B} = compile:forms([{attribute, 1, module, megaphone_of_somebody_else}], []),"
        ' code:load_binary(M, "/elsewhere/megaphone_of_somebody_else.beam", B)'
    )
    attached.ctl("module_uninstall", "mod_megaphone")
    assert evaluate(attached, loaded) != "false"
    assert evaluate(attached, "code:is_loaded(megaphone_port)") == "false"


def test_boots_again_and_stops_the_program(attached: EmbeddedNode) -> None:
    program = int(port(attached, "os_pid"))
    attached.stop()
    assert not alive(program)
    attached.start()
    wait_until(lambda: connected(attached))
    assert error_lines(attached) == []


def test_upgrade_loads_every_changed_module(attached: EmbeddedNode) -> None:
    versions = "mod_megaphone:loaded_versions()"
    before = evaluate(attached, versions)
    assert "megaphone_reason" in before
    assert "{megaphone,<<" in before
    changed = attached.directory / "modules/sources/mod_megaphone/src/megaphone_reason.erl"
    text = changed.read_text(encoding="utf-8")
    changed.write_text(
        text.replace("it said no hello in time", "it said no hello in all its time"),
        encoding="utf-8",
    )
    interface = changed.with_name("megaphone.erl")
    text = interface.read_text(encoding="utf-8")
    interface.write_text(text.replace("TIMEOUT, 5000", "TIMEOUT, 6000"), encoding="utf-8")
    digest = "binary:encode_hex(megaphone:module_info(md5))"
    former = evaluate(attached, digest)
    attached.ctl("module_upgrade", "mod_megaphone")
    wait_until(lambda: connected(attached))
    assert evaluate(attached, versions) != before
    assert evaluate(attached, digest) != former
    assert evaluate(attached, "mod_megaphone:stale_modules()") == "[]"
    assert evaluate(attached, "megaphone_reason:text(no_hello, program)") == (
        '<<"itsaidnohelloinallitstime">>'
    )


def test_reload_applies_options(attached: EmbeddedNode) -> None:
    program = port(attached, "os_pid")
    options = attached.directory / CONTRIBUTED
    more = """    batch_size: 7
    allowed_processes: [some_name, "other"]
    allowed_nodes: all
    allowed_names: [shouter]
    allowed_functions: ["ejabberd_sm:connected_users_number/0"]
"""
    options.write_text(options.read_text(encoding="utf-8") + more, encoding="utf-8")
    attached.ctl("reload_config")
    assert evaluate(attached, "mod_megaphone:option(batch_size)") == "7"
    assert evaluate(attached, "mod_megaphone:option(allowed_processes)") == "[some_name,other]"
    assert evaluate(attached, "mod_megaphone:option(allowed_nodes)") == "all"
    assert evaluate(attached, "mod_megaphone:option(allowed_names)") == '[<<"shouter">>]'
    assert evaluate(attached, "mod_megaphone:option(allowed_functions)") == (
        '[<<"ejabberd_sm:connected_users_number/0">>]'
    )
    assert port(attached, "os_pid") == program

    options.write_text(
        options.read_text(encoding="utf-8") + "    max_frame: 1048576\n", encoding="utf-8"
    )
    attached.ctl("reload_config")
    wait_until(lambda: port(attached, "restarts") == "1" and connected(attached))
    assert port(attached, "os_pid") != program
    assert error_lines(attached) == []


def test_options_that_differ_are_an_error_and_change_nothing(
    start_node: Callable[..., EmbeddedNode],
) -> None:
    node = start_node(hosts=("localhost", "a.test"))
    write_package(node, {"python": PROGRAM})
    node.ctl("module_install", "mod_megaphone")
    wait_until(lambda: connected(node))
    # A module that is in the contributed file may be nowhere else.
    (node.directory / CONTRIBUTED).unlink()
    options = {"python": str(PROGRAM)}
    vhosts = {
        "localhost": {"modules": {"mod_megaphone": options}},
        "a.test": {"modules": {"mod_megaphone": {**options, "batch_size": 5}}},
    }
    node.reconfigure(options={"append_host_config": vhosts})
    assert evaluate(node, "mod_megaphone:option(batch_size)") == "1000"
    assert "vhost a.test differ from those in use: [batch_size]" in log(node)
    # At boot as well: the node is up, the module too, with the first vhost's.
    node.restart()
    wait_until(lambda: connected(node))
    assert evaluate(node, "mod_megaphone:option(batch_size)") == "1000"
    assert log(node).count("differ from those in use: [batch_size]") == 2


def test_a_node_without_python_runs_on(start_node: Callable[..., EmbeddedNode]) -> None:
    node = start_node()
    write_package(node, {"python": "/no/such/python", "restart_intensity": 2})
    node.ctl("module_install", "mod_megaphone")
    wait_until(lambda: port(node, "state") == '<<"down">>')
    assert "/no/such/python is not there" in log(node)
    assert log(node).count("does not stay up") == 1
    node.register("alice")
    node.restart()
    assert node.ctl("megaphone_status").returncode == 0


def test_bad_options_are_refused_and_change_nothing(attached: EmbeddedNode) -> None:
    options = attached.directory / CONTRIBUTED
    good = options.read_text(encoding="utf-8")
    for option, value in [
        ("batch_size", "0"),
        ("batch_size", "10001"),
        ("max_frame", "10"),
        ("heartbeat_interval", "soon"),
        ("python", '""'),
        ("port_windows", "1"),
        ("max_processes", "0"),
        ("max_calls", "many"),
        ("allowed_names", "some"),
        ("allowed_processes", "some"),
        ("allowed_nodes", "some"),
        ("allowed_functions", '["os:cmd"]'),
        ("pipeline_heartbeat_interval", "0"),
        ("sample_interval", "0"),
        ("reconciliation_interval", "2 hours"),
    ]:
        options.write_text(f"{good}    {option}: {value}\n", encoding="utf-8")
        refused = attached.ctl("reload_config", check=False)
        assert refused.returncode != 0, option
        assert option in refused.stdout + refused.stderr + log(attached)
    options.write_text(good, encoding="utf-8")
    attached.ctl("reload_config")
    assert connected(attached)
    assert port(attached, "restarts") == "0"


def test_the_package_passes_ejabberds_own_check(start_node: Callable[..., EmbeddedNode]) -> None:
    node = start_node()
    write_package(node, {"python": PROGRAM})
    assert node.ctl("module_check", "mod_megaphone").returncode == 0


def test_one_version() -> None:
    header = (mod_megaphone_source() / "include" / "megaphone.hrl").read_text(encoding="utf-8")
    assert f'<<"{__version__}">>' in header


def test_every_option_is_documented_and_has_a_default(attached: EmbeddedNode) -> None:
    options = "lists:sort([O || {O, _} <- mod_megaphone:mod_options(<<>>)])"
    documented = "lists:sort([O || {O, _} <- maps:get(opts, mod_megaphone:mod_doc())])"
    assert evaluate(attached, f"{options} =:= {documented}") == "true"
    validators = "[mod_megaphone:mod_opt_type(O) || {O, _} <- mod_megaphone:mod_options(<<>>)]"
    assert evaluate(attached, f"lists:all(fun erlang:is_function/1, {validators})") == "true"
    readme = (mod_megaphone_source() / "README.md").read_text(encoding="utf-8")
    for option in re.findall(r"[a-z_]+", evaluate(attached, options)):
        assert f"| `{option}` |" in readme
