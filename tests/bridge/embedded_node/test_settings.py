from bridge.embedded_node.settings import NodeSettings, ejabberd_yml


def test_clients_are_served_on_loopback_only():
    document = ejabberd_yml(NodeSettings(), 22222)
    assert [(one["port"], one["ip"]) for one in document["listen"]] == [(22222, "127.0.0.1")]
    assert document["s2s_access"] == "none"


def test_modules_are_added_changed_and_taken_out():
    settings = NodeSettings(modules={"mod_mam": {"default": "always"}, "mod_last": None})
    modules = ejabberd_yml(settings, 1)["modules"]
    assert modules["mod_mam"] == {"default": "always"}
    assert "mod_last" not in modules
    assert "mod_announce" in modules
    assert "mod_mam" not in ejabberd_yml(NodeSettings(), 1)["modules"]


def test_options_take_the_place_of_ours_and_take_out():
    settings = NodeSettings(options={"loglevel": "debug", "acl": None})
    document = ejabberd_yml(settings, 1)
    assert document["loglevel"] == "debug"
    assert "acl" not in document


def test_listeners_stand_beside_the_one_for_clients():
    listener = {"port": 5, "ip": "127.0.0.1", "module": "ejabberd_http"}
    document = ejabberd_yml(NodeSettings(listen=[listener]), 1)
    assert document["listen"][1:] == [listener]
