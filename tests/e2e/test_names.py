"""The names that Python servers may have at the node, and those that they cannot take."""

import json
import os
import signal

import pytest

from tests.e2e.support import ENVIRONMENT, attach, connected, port
from tests.support.logs import log
from tests.support.processes import wait_until

SERVER = """
from erlang_port.otp.gen_server import GenServer, Ok, Reply


class Server(GenServer):
    def init(self, args):
        return Ok(None)

    def handle_call(self, message, from_, state):
        return Reply(message, state)
"""

#: In use; in use on another node, as a global name has it; not in use yet.
TAKEN = {"ejabberd_iq": "local", "ejabberd_router": "global", "mod_mine_localhost": "local"}


@pytest.fixture
def node(start_node, tmp_path):
    (tmp_path / "server_of_names.py").write_text(SERVER)
    settings = tmp_path / "megaphone.toml"
    settings.write_text(
        f"python_path = [{json.dumps(str(tmp_path))}]\n"
        + "".join(
            f'[servers.{name}]\nstart = "server_of_names:Server"\nscope = "{scope}"\n'
            for name, scope in {**TAKEN, "mine": "local"}.items()
        )
    )
    return start_node(environment={**ENVIRONMENT, "MEGAPHONE_CONFIG": str(settings)})


def is_pythons(node, name):
    return node.eval(f"megaphone_processes:is_proxy(whereis({name}))") == "true"


def test_a_name_of_ejabberds_is_not_to_be_had(node):
    attach(node)
    wait_until(lambda: connected(node), 20)
    wait_until(lambda: is_pythons(node, "mine"), 10)
    refused = "the name {} was refused: allowed_names does not allow it"
    wait_until(lambda: all(refused.format(name) in log(node) for name in TAKEN), 10)
    # While ejabberd's supervisor starts one again, Python tries to be it.
    for _ in range(3):
        before = node.eval("whereis(ejabberd_iq)")
        node.eval("exit(whereis(ejabberd_iq), kill)")
        wait_until(
            lambda old=before: node.eval("whereis(ejabberd_iq)") not in {old, "undefined"}, 10
        )
    os.kill(int(port(node)[1]), signal.SIGKILL)
    wait_until(lambda: node.eval("whereis(mine)") == "undefined", 10)
    wait_until(lambda: is_pythons(node, "mine"), 20)
    wait_until(lambda: log(node).count(refused.format("ejabberd_iq")) > 1, 10)
    assert not is_pythons(node, "ejabberd_iq")
    supervised = "[P || {ejabberd_iq, P, _, _} <- supervisor:which_children(ejabberd_sup)]"
    assert node.eval(f"{supervised} =:= [whereis(ejabberd_iq)]") == "true"
    assert node.eval("[global:whereis_name(ejabberd_router), whereis(mod_mine_localhost)]") == (
        "[undefined,undefined]"
    )


def test_a_list_is_what_python_may_have(node):
    attach(node, allowed_names=["mod_mine_localhost", "ejabberd_iq"])
    wait_until(lambda: connected(node), 20)
    wait_until(lambda: node.eval("whereis(mod_mine_localhost)") != "undefined", 10)
    assert node.eval("gen_server:call(mod_mine_localhost, hello)") == "hello"
    wait_until(lambda: "the name mine was refused" in log(node), 10)
    assert node.eval("whereis(mine)") == "undefined"
    # Allowed, and in use.
    assert not is_pythons(node, "ejabberd_iq")
