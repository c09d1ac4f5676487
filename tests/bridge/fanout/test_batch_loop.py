import pytest

from bridge.fanout.batch_loop import BatchLoop
from bridge.fanout.template import compile_template
from bridge.fanout.text import TextTooLargeError

VALUES = {"user": b"a\0b\0c"}


def loop(source: str) -> BatchLoop:
    template = compile_template(source.encode())
    assert isinstance(template, BatchLoop)
    return template


def test_a_template_without_names_runs_for_everybody() -> None:
    assert loop("{{ 1 + 1 }}").columns == ()
    assert loop("{{ 1 + 1 }}").render({}, 3, 100).texts == b"2\x002\x002"


def test_one_who_raises_costs_nobody_else() -> None:
    rendered = loop("{% if user == 'b' %}{{ none.x }}{% endif %}{{ user }}").render(VALUES, 3, 100)
    assert (rendered.texts, rendered.dropped) == (b"a\0\0c", {1: "template"})


def test_a_nul_in_one_text_shifts_nobody() -> None:
    rendered = loop("{{ user|replace('b', '\\x00') }}").render(VALUES, 3, 100)
    assert (rendered.texts, rendered.dropped) == (b"a\0\0c", {1: "invalid"})


def test_recursion_without_end_is_that_recipient_s() -> None:
    source = "{% macro m() %}{{ m() }}{% endmacro %}{% if user == 'c' %}{{ m() }}{% endif %}x"
    assert loop(source).render(VALUES, 3, 100).dropped == {2: "template"}


def test_the_limit_counts_bytes_and_separators() -> None:
    assert len(loop("{{ user * 20 }}").render(VALUES, 3, 62).texts) == 62
    with pytest.raises(TextTooLargeError):
        loop("{{ user * 20 }}").render(VALUES, 3, 61)
    with pytest.raises(TextTooLargeError):
        loop("{{ 'é' * 20 }}").render(VALUES, 3, 80)


def test_output_without_end_stops_at_the_limit() -> None:
    source = (
        "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxx{% endfor %}{% endfor %}"
    )
    with pytest.raises(TextTooLargeError):
        loop(source).render(VALUES, 3, 1 << 20)


def test_an_error_names_the_line() -> None:
    assert (
        loop("\n\n{{ user.nick }}")
        .error(VALUES | {"user": b"a"})
        .startswith("line 3: UndefinedError: ")
    )
