import pytest

from bridge.fanout.prepare import SAMPLES, check
from bridge.fanout.text import MAX_ERROR_TEXT, TemplateError

LIMIT = 1 << 20


@pytest.mark.parametrize(
    "source",
    [
        "Hello {{ user }}",
        "",
        # Too much for a short name, or for a long one, is a matter of that recipient.
        "{{ user[500] }}",
        "{{ 1 // (10 - user|length) }}",
        "{% if user|length > 100 %}{{ '\\x00' }}{% endif %}x",
    ],
)
def test_a_template_that_works_for_somebody_is_accepted(source: str) -> None:
    check(source.encode(), LIMIT)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("\n{{ user.nick }}", "line 2: UndefinedError: 'str object' has no attribute 'nick'"),
        ("{{ 1 / 0 }}", "line 1: ZeroDivisionError"),
        ("{{ '\\x00' }}", "character that XML 1.0 forbids"),
        ("{{ '\\ud800' }}", "character that XML 1.0 forbids"),
        ("{{ 'x' * 2000000 }}", f"more than {LIMIT} bytes"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{{ nick }}", "unknown name 'nick'"),
    ],
)
def test_a_template_that_never_works_is_refused(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        check(source.encode(), LIMIT)


def test_the_text_of_an_error_is_one_bounded_line() -> None:
    with pytest.raises(TemplateError) as caught:
        check(b"{{ {}['x\\ny' * 5000] }}", LIMIT)
    assert len(str(caught.value)) <= MAX_ERROR_TEXT
    assert str(caught.value).isprintable()


def test_the_samples_are_addresses_as_they_may_be() -> None:
    for sample in SAMPLES:
        assert sample.keys() == {"user", "server", "resource"}
        assert all(0 < len(value) <= 1023 and value.decode() for value in sample.values())
