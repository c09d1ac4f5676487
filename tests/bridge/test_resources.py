import pytest

import bridge
from bridge.cli.errors import CommandError
from bridge.resources import mod_megaphone_source, prometheus_files
from tests.project.conftest import ROOT


def test_in_a_checkout_it_is_the_checkouts_own():
    assert mod_megaphone_source() == ROOT / "mod_megaphone"


def test_an_installation_without_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bridge, "__file__", str(tmp_path / "bridge/__init__.py"))
    with pytest.raises(CommandError, match=r"no mod_megaphone\.spec"):
        mod_megaphone_source()


def test_what_prometheus_reads_is_carried_along():
    assert (prometheus_files() / "prometheus.yml").is_file()
    assert list(prometheus_files().glob("rules/*.yml"))
    assert (prometheus_files() / "consoles/megaphone.html").is_file()
