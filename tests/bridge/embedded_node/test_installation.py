import pytest

from bridge.cli.errors import ExitStatus
from bridge.embedded_node import EmbeddedNodeError, installation


@pytest.fixture
def release(tmp_path):
    """An ejabberd as its own installers lay it out."""
    binaries = tmp_path / "ejabberd-26.07/bin"
    erts = tmp_path / "ejabberd-26.07/erts-16/bin"
    for program in (erts / "erl", erts / "erl_call"):
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    script = binaries / "ejabberdctl"
    binaries.mkdir(parents=True)
    script.write_text(
        "#!/bin/sh\n"
        'SCRIPT_DIR="$(cd "$(dirname "$SCRIPT")" && pwd -P)"\n'
        'ERTS_VSN="16"\n'
        'ERL="${SCRIPT_DIR}/../erts-$ERTS_VSN/bin/erl"\n'
        "ERL_LIBS='/opt/lib'\n"
        'export ERL_FLAGS="$ERL_FLAGS -enable-feature maybe_expr"\n'
    )
    script.chmod(0o755)
    return script


def test_a_release_is_found_through_its_script(release):
    found = installation.find(str(release))
    assert found.erl.samefile(release.parent.parent / "erts-16/bin/erl")
    assert found.erl_call.name == "erl_call"
    assert found.libraries == "/opt/lib"
    assert found.flags == "-enable-feature maybe_expr"


def test_a_link_to_the_script_leads_to_its_release(release, tmp_path):
    link = tmp_path / "ejabberdctl"
    link.symlink_to(release)
    assert installation.find(str(link)) == installation.find(str(release))


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(EmbeddedNodeError) as caught:
        installation.find(str(tmp_path / "ejabberdctl"))
    assert caught.value.status == ExitStatus.EJABBERDCTL_NOT_FOUND


def test_a_script_of_another_kind_is_told(release):
    release.write_text('#!/bin/sh\nERL="$(command -v erl)"\nERL_LIBS=/opt/lib\n')
    with pytest.raises(EmbeddedNodeError, match="does not say which Erlang"):
        installation.find(str(release))


def test_a_missing_erl_call_is_told(release, monkeypatch, tmp_path):
    (release.parent.parent / "erts-16/bin/erl_call").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedNodeError, match="erl_call"):
        installation.find(str(release))
