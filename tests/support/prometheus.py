"""Asking a Prometheus, independent of the code under test."""

import json
import urllib.parse
import urllib.request
from typing import Any


class Prometheus:
    """A Prometheus by its address, such as `http://127.0.0.1:9090`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """What its HTTP API answers below /api/v1/; HTTPError when it refuses."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def numbers(self, expression: str) -> list[float]:
        """The values that the expression has now; what is not a number is left out."""
        # A comparison with NaN is false, and drops it.
        data = self.ask("query", query=f"({expression}) >= -Inf")
        return [float(series["value"][1]) for series in data["result"]]
