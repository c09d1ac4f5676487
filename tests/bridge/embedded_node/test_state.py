import json

import pytest

from bridge.embedded_node import EmbeddedNodeError, NodeSettings, state
from bridge.embedded_node.processes import Identity


def test_what_was_saved_is_loaded(tmp_path):
    settings = NodeSettings(
        hosts=["a", "b"],
        modules={"mod_mam": None},
        options={"x": [1]},
        listen=[{"port": 1}],
        environment={"A": "ü"},
        erl_options=["+P", "1000"],
        ejabberdctl="/x",
    )
    saved = state.NodeState("n@h", 1, 2, Identity(3, 4), settings)
    saved.save(tmp_path / "node.json")
    loaded = state.load(tmp_path / "node.json")
    assert loaded is not None
    assert loaded.process == Identity(3, 4)
    assert json.loads(json.dumps(loaded.settings.modules)) == {"mod_mam": None}
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "node.json").read_bytes()


def test_it_is_private_and_leaves_no_part_behind(tmp_path):
    state.NodeState("n@h", 1, 2).save(tmp_path / "node.json")
    assert (tmp_path / "node.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["node.json"]


def test_nothing_saved_is_none(tmp_path):
    assert state.load(tmp_path / "node.json") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": "n", "process": 7}'])
def test_a_damaged_file_is_told(tmp_path, text):
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(EmbeddedNodeError, match=r"node\.json"):
        state.load(tmp_path / "node.json")
