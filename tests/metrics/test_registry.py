from prometheus_client import Counter, Histogram
from prometheus_client.exposition import generate_latest

from metrics.registry import new_registry


def test_nothing_but_what_was_put_in_and_no_created() -> None:
    registry = new_registry()
    Counter("megaphone_things", "Things.", registry=registry).inc()
    Histogram("megaphone_seconds", "Seconds.", registry=registry).observe(1)
    text = generate_latest(registry).decode()
    assert "_created" not in text
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} == {
        "megaphone_things_total",
        "megaphone_seconds",
    }
