"""The dashboard that needs nothing but Prometheus: one page, as a console template.

Prometheus fills console templates with Go's html/template, which takes comments out of scripts and
styles. They are taken out here, so that the hashes of the page's policy (Content Security Policy
Level 3, 6.7.2) are those of what the browser gets.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

from metrics.dashboards.panels import ROWS

if TYPE_CHECKING:
    from metrics.dashboards.panel import Panel, Row

SOURCES: Final = Path(__file__).parent / "console"

#: In the order in which they use each other.
SCRIPTS: Final = ("units.js", "prometheus.js", "chart.js", "page.js")

#: What may be chosen to be seen, in seconds.
RANGES: Final = {
    "2 minutes": 120,
    "15 minutes": 900,
    "1 hour": 3600,
    "6 hours": 21600,
    "1 day": 86400,
    "7 days": 604800,
}
_DEFAULT: Final = "15 minutes"


def render() -> str:
    """The console template."""
    script = "(() => {\n" + "\n".join(_source(name) for name in SCRIPTS) + "\n})();"
    style = _source("style.css")
    policy = {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return Template((SOURCES / "page.html").read_text(encoding="utf-8")).substitute(
        policy="; ".join(f"{name} {value}" for name, value in policy.items()),
        style=style,
        script=script,
        ranges="\n".join(
            f'<option value="{seconds}"{" selected" if name == _DEFAULT else ""}>{name}</option>'
            for name, seconds in RANGES.items()
        ),
        links="\n".join(f'<a href="#{slug(row.title)}">{escape(row.title)}</a>' for row in ROWS),
        rows="\n".join(map(_row, ROWS)),
        panels=_json([_data(panel) for row in ROWS for panel in row.panels]),
    )


def slug(title: str) -> str:
    """The id of a row or a panel on the page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _source(name: str) -> str:
    lines = (SOURCES / name).read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line and not line.lstrip().startswith("//"))


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json(value: object) -> str:
    # A "<" would let the text end the script element; "{{" would begin an action of the template.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace("{{", r"{\u007b")


def _data(panel: Panel) -> dict[str, object]:
    return {
        "id": slug(panel.title),
        "unit": panel.unit,
        "kind": panel.kind,
        "logarithmic": panel.logarithmic,
        "warning": panel.warning,
        "critical": panel.critical,
        "queries": [[query.expression, query.legend] for query in panel.queries],
    }


def _row(row: Row) -> str:
    name = slug(row.title)
    return (
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(row.title)}</h2>\n'
        f'<div class="row">\n{"".join(map(_panel, row.panels))}</div>\n</section>'
    )


def _panel(panel: Panel) -> str:
    name = slug(panel.title)
    return (
        f'<figure class="panel {panel.kind}" id="{name}">\n'
        f'<figcaption><h3>{escape(panel.title)}</h3>\n<p class="help" id="{name}-help">'
        f"{escape(panel.help)}</p></figcaption>\n"
        + ('<p class="now"></p>\n' if panel.kind == "figure" else "")
        + f'<div class="chart" tabindex="0" role="img" aria-describedby="{name}-help"'
        f' aria-label="{escape(panel.title)}"></div>\n'
        '<ul class="legend"></ul>\n<p class="note"></p>\n</figure>\n'
    )
