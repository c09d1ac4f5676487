"""What the tests of metrics ask a node that Megaphone is attached to."""

from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.support import connected, get, until


class Scrape(NamedTuple):
    """What one scrape showed: by name and label values, and the type of each metric by its name.

    The values are in the order of the labels' names.
    """

    values: dict[tuple[str, ...], float]
    kinds: dict[str, str]

    def __getitem__(self, name):
        """The value of a metric, `megaphone_x` or `("megaphone_x", "label value", ...)`."""
        return self.values[name if isinstance(name, tuple) else (name,)]

    def get(self, *name):
        return self.values.get(name)


def url(node):
    """Where its metrics are, once all of Megaphone is up."""
    found = connected(node)
    return found["bridge"]["http"] if found else None


def scraped(url, path="/metrics"):
    status, body = get(f"{url}{path}")
    assert status == 200
    return parsed(body.decode())


def parsed(text):
    values = {}
    kinds = {}
    for family in text_string_to_metric_families(text):
        kinds[f"{family.name}_total" if family.type == "counter" else family.name] = family.type
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in values, f"twice: {key}"
            values[key] = sample.value
    return Scrape(values, kinds)


async def scraped_until(url, condition, timeout=20.0, path="/metrics"):
    """Scrapes until the condition holds for what is shown; the scrape."""

    def look():
        scrape = scraped(url, path)
        return scrape if condition(scrape) else None

    return await until(look, timeout, pause=0.1)


async def attached_url(node):
    return await until(lambda: url(node))
