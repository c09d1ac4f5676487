import pytest

from metrics.dashboards.panel import Query


def test_a_query_is_filled():
    query = Query('rate(a_total{$node,b="c"}[$window]) / d{$node}', "{b}")
    assert (
        query.filled(node='instance="x"', window="1m")
        == 'rate(a_total{instance="x",b="c"}[1m]) / d{instance="x"}'
    )


def test_what_there_is_no_value_for_is_refused():
    with pytest.raises(KeyError):
        Query("a{$nodes}", "a").filled(node="", window="1m")
