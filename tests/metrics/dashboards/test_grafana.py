import json
import re
from pathlib import Path

import yaml

from metrics.dashboards.grafana import UID, render
from metrics.dashboards.panels import ROWS
from tests.support.promql import metrics

GRAFANA = Path(__file__).parents[3] / "metrics/grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards/megaphone.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def test_it_is_current():
    current = (GRAFANA / "dashboards/megaphone.json").read_text()
    assert current == render(), "write it anew: python -m metrics.dashboards"


def test_it_has_the_rows_and_panels():
    shown = [(panel["type"] == "row", panel["title"]) for panel in DASHBOARD["panels"]]
    wanted = []
    for row in ROWS:
        wanted += [(True, row.title), *((False, panel.title) for panel in row.panels)]
    assert shown == wanted


def test_it_is_found_again_under_its_uid():
    assert DASHBOARD["uid"] == UID == "megaphone"
    assert "id" not in DASHBOARD
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_data_source_and_the_node_are_chosen_in_it():
    source, node = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert (node["name"], node["type"]) == ("node", "query")
    assert node["query"] == "label_values(megaphone_build_info, instance)"
    wanted = {"type": "prometheus", "uid": "${datasource}"}
    assert node["datasource"] == wanted
    for panel in PANELS:
        assert panel["datasource"] == wanted
        assert all(target["datasource"] == wanted for target in panel["targets"])


def test_its_queries_are_promql_once_grafana_has_filled_them_in():
    for panel in PANELS:
        assert panel["targets"]
        for target in panel["targets"]:
            assert '"$node"' in target["expr"]
            assert metrics(target["expr"].replace("$__rate_interval", "1m"))
            assert not re.search(r"(?<!\{)\{\w+\}", target["legendFormat"])


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_provisioning_files():
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/megaphone.yml").read_text())
    assert provider["apiVersion"] == 1
    assert [one["type"] for one in provider["providers"]] == ["file"]
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/megaphone.yml").read_text())
    assert [one["type"] for one in sources["datasources"]] == ["prometheus"]
    scraped = yaml.safe_load((GRAFANA / "../prometheus/prometheus.yml").read_text())
    (source,) = sources["datasources"]
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
