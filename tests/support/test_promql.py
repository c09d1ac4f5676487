import pytest

from tests.support.promql import exported, metrics, operands


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("a", {"a"}),
        ('sum by (le) (rate(a_bucket{b="d"}[5m])) / on (e) c:d:e', {"a_bucket", "c:d:e"}),
        ('label_replace(a, "b", "c", "", "")', {"a"}),
        ("max_over_time(rate(a[1m])[5m:10s]) > -(b) and vector(1)", {"a", "b"}),
    ],
)
def test_metrics(expression, names):
    assert metrics(expression) == names


def test_what_is_no_promql_is_refused():
    with pytest.raises(ValueError, match="unclosed"):
        metrics("sum(a")


def test_exported():
    assert exported("a_seconds_bucket") == exported("a_seconds_count") == "a_seconds"
    assert exported("a_total") == "a_total"


@pytest.mark.parametrize(
    ("expression", "sides"),
    [
        ("a == 0", ["a{}"]),
        (
            "a - b > 0.9 and on (job) (rate(c[5m]) > on (job) d)",
            ["a{} - b{}", "rate(c{}[5m])", "d{}"],
        ),
        ("abs(a) > 0.01 * b or c", ["abs(a{})", "0.01 * b{}", "c{}"]),
    ],
)
def test_operands(expression, sides):
    assert operands(expression) == sides
