"""The dashboard for Grafana 11, built with Grafana's own types.

Needs grafana-foundation-sdk, which only those who change the panels have: the JSON is kept with the
project.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as models

from metrics.dashboards.panels import ROWS

if TYPE_CHECKING:
    from metrics.dashboards.panel import Panel, Query, Unit

#: Links and bookmarks keep working when the dashboard is provisioned anew.
UID: Final = "megaphone"

#: Who chooses the data source, and the node, at the top of the dashboard.
DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_NODE: Final = 'instance="$node"'

#: Grafana's columns are 24.
_WIDTH: Final = 8
_HEIGHT: Final = 8

_UNITS: Final[dict[Unit, str]] = {
    "count": units.Short,
    "count_per_second": units.CountsPerSecond,
    "bytes": units.BytesIEC,
    "bytes_per_second": units.BytesPerSecondIEC,
    "seconds": units.Seconds,
    "ratio": units.PercentUnit,
    "cores": units.Short,
}


def render() -> str:
    """The dashboard as JSON."""
    dashboard = (
        builders.Dashboard("Megaphone")
        .uid(UID)
        .description("How many more users the ejabberd node can hold, and how Megaphone does.")
        .tags(["ejabberd", "megaphone"])
        .timezone("browser")
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .with_variable(
            builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(
            builders.QueryVariable("node")
            .label("Node")
            .datasource(DATASOURCE)
            .query("label_values(megaphone_build_info, instance)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
        )
    )
    numbers = itertools.count(1)
    for row in ROWS:
        dashboard.with_row(builders.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            dashboard.with_panel(_panel(panel).id(next(numbers)))
    return json.dumps(dashboard.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    built = _figure() if panel.kind == "figure" else _lines(panel)
    built.title(panel.title).description(panel.help).datasource(DATASOURCE)
    built.unit(_UNITS[panel.unit]).thresholds(_thresholds(panel)).span(_WIDTH).height(_HEIGHT)
    for place, query in enumerate(panel.queries):
        built.with_target(_target(query, place))
    return built


def _figure() -> stat.Panel:
    return stat.Panel().graph_mode(common.BigValueGraphMode.AREA)


def _lines(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .show_points(common.VisibilityMode.AUTO)
        .fill_opacity(30 if panel.kind == "stack" else 0)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if panel.kind == "stack":
        built.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if panel.logarithmic:
        built.scale_distribution(
            common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        )
    else:
        built.axis_soft_min(0)
    if panel.warning is not None:
        built.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(
                common.GraphThresholdsStyleMode.DASHED
            )
        )
    return built


def _thresholds(panel: Panel) -> builders.ThresholdsConfig:
    # The first step is for everything below the others; null stands for minus infinity.
    steps = [models.Threshold(color="text")]
    if panel.warning is not None:
        steps.append(models.Threshold(panel.warning, "orange"))
    if panel.critical is not None:
        steps.append(models.Threshold(panel.critical, "red"))
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _target(query: Query, place: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + place))
        .datasource(DATASOURCE)
        .expr(query.filled(node=_NODE, window="$__rate_interval"))
        .legend_format(re.sub(r"\{(\w+)\}", r"{{\1}}", query.legend))
        .range()
    )
