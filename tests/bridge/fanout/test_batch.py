import pytest

from bridge.fanout.batch import BatchError, format_batch
from bridge.fanout.limits import MAX_TEMPLATES
from bridge.fanout.text import TextTooLargeError

LIMIT = 1 << 20
USERS = {b"user": b"romeo\0juliet", b"server": b"a\0b"}


def test_one_column_a_template() -> None:
    assert format_batch(([b"Hi {{ user }}", b"{{ jid }}"], 2, USERS), LIMIT) == (
        [b"Hi romeo\0Hi juliet", b"romeo@a\0juliet@b"],
        [],
    )


def test_a_recipient_dropped_by_one_template_gets_none_of_them() -> None:
    raises = b"{% if user == 'romeo' %}{{ 1 / 0 }}{% endif %}body"
    assert format_batch(([b"{{ user }}", raises, b"{{ server }}"], 2, USERS), LIMIT) == (
        [b"\0juliet", b"\0body", b"\0b"],
        [(0, "template")],
    )


def test_the_reason_is_that_of_the_first_template_that_failed() -> None:
    columns = {b"user": b"a\0\x01\0c"}
    raises = b"{{ 1 // (user|length - 1) }}"
    for templates, reason in (([b"{{ user }}", raises], "invalid"), ([raises], "template")):
        _, dropped = format_batch((templates, 3, columns), LIMIT)
        assert dropped[1] == (1, reason)


def test_forbidden_values_shift_nobody() -> None:
    columns = {b"user": b"a\0\x1f\0c\0\xff\0e"}
    assert format_batch(([b"{{ user }}!"], 5, columns), LIMIT) == (
        [b"a!\0\0c!\0\0e!"],
        [(1, "invalid"), (3, "invalid")],
    )


def test_a_column_that_no_template_uses_is_not_looked_at() -> None:
    columns = {b"user": b"a\0b", b"colour": b"too\0many\0\xff"}
    assert format_batch(([b"{{ user }}"], 2, columns), LIMIT) == ([b"a\0b"], [])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (7, "the body is not"),
        (([], 1, {}), "the body is not"),
        (([b"x"] * (MAX_TEMPLATES + 1), 1, {}), "the body is not"),
        (([b"x"], 0, {}), "the body is not"),
        (([b"x"], -1, {}), "the body is not"),
        (([b"x"], b"1", {}), "the body is not"),
        ((["x"], 1, {}), "the body is not"),
        (([b"x"], 1, {b"user": 3}), "the body is not"),
        (([b"x"], 1, {3: b"user"}), "the body is not"),
        (([b"{{ user }}"], 1, {}), "the column user is missing"),
        (([b"{{ user }}"], 3, USERS), "user: a column of 3 values holds 2"),
        (([b"{{ user|lower }}"], 1, USERS), "user: a column of 1 values holds 2"),
        (([b"fine", b"{{ nick }}"], 1, {}), "template 1: line 1: unknown name 'nick'"),
    ],
)
def test_what_is_no_batch_is_refused(body: object, message: str) -> None:
    with pytest.raises(BatchError, match=message):
        format_batch(body, LIMIT)


@pytest.mark.parametrize("template", [b"{{ user }}12345", b"{{ user|lower }}12345"])
def test_the_limit_is_for_all_texts_together(template: bytes) -> None:
    size = len(b"romeo12345\0juliet12345")
    assert format_batch(([template], 2, USERS), size)[1] == []
    with pytest.raises(TextTooLargeError):
        format_batch(([template], 2, USERS), size - 1)
    with pytest.raises(TextTooLargeError):
        format_batch(([template, template], 2, USERS), 2 * size - 1)
