"""What a panel of a dashboard is, whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import Literal

#: Base units, as the metrics have them; the dashboards scale and write them.
Unit = Literal[
    "count", "count_per_second", "bytes", "bytes_per_second", "seconds", "ratio", "cores"
]

#: Lines on one scale, areas on top of each other, or one figure with its course.
Kind = Literal["lines", "stack", "figure"]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression of a panel.

    Attributes:
        expression: `$node` stands for the matcher that chooses the node, `$window` for the time
            over which a rate is taken.
        legend: What its lines are called; `{label}` stands for a label's value.
    """

    expression: str
    legend: str

    def filled(self, *, node: str, window: str) -> str:
        """The expression for a node.

        Args:
            node: A label matcher, such as `instance="host:8470"`.
            window: A duration in PromQL's syntax.
        """
        return Template(self.expression).substitute(node=node, window=window)


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart.

    Attributes:
        title: Unique within the dashboard.
        unit: Of all its values.
        help: What it shows and what to make of it.
        queries: At least one.
        kind: How it is drawn.
        logarithmic: Whether its values are orders of magnitude apart.
        warning: From here on upwards somebody should look; an alert has the same bound.
        critical: From here on upwards somebody is woken.
    """

    title: str
    unit: Unit
    help: str
    queries: tuple[Query, ...]
    kind: Kind
    logarithmic: bool
    warning: float | None
    critical: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]
