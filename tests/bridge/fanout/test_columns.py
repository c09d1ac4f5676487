import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.fanout import columns

allowed_text = st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(
    lambda text: "\ufffe" not in text and "\uffff" not in text
)


@given(st.lists(allowed_text.map(str.encode), min_size=1))
@settings(deadline=None)
def test_what_is_joined_comes_apart_again(values: list[bytes]) -> None:
    column = columns.join(values)
    assert columns.is_clean(column)
    assert columns.split(column, len(values)) == values
    columns.check_count(column, len(values))


@given(st.binary())
@settings(deadline=None)
def test_a_value_is_sendable_exactly_when_every_character_is_xml(value: bytes) -> None:
    assert columns.is_sendable(value) == _is_xml(value)


def _is_xml(value: bytes) -> bool:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    return all(
        character in "\t\n\r"
        or " " <= character <= "\ud7ff"
        or "\ue000" <= character <= "\ufffd"
        or character >= "\U00010000"
        for character in text
    )


@pytest.mark.parametrize("code", [*range(0x20), 0xFFFE, 0xFFFF])
def test_every_forbidden_character_is_found(code: int) -> None:
    value = b"before " + chr(code).encode() + b" after"
    assert columns.is_sendable(value) == (code in (0x09, 0x0A, 0x0D))
    assert columns.is_clean(value) == (code in (0x00, 0x09, 0x0A, 0x0D))


@pytest.mark.parametrize("value", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"caf\xe9"])
def test_what_is_no_utf_8_is_not_clean(value: bytes) -> None:
    assert not columns.is_utf8(value)
    assert not columns.is_clean(value)


@pytest.mark.parametrize("count", [1, 3])
def test_a_wrong_count_is_an_error(count: int) -> None:
    with pytest.raises(columns.ColumnError, match=f"{count} values holds 2"):
        columns.split(b"a\0b", count)
    with pytest.raises(columns.ColumnError, match=f"{count} values holds 2"):
        columns.check_count(b"a\0b", count)


def test_one_empty_value_is_a_column() -> None:
    assert columns.split(b"", 1) == [b""]


def test_blanking_leaves_the_others_where_they_are() -> None:
    assert columns.blank(b"a\0b\0c", 3, [1]) == b"a\0\0c"


def test_the_indexes_of_what_cannot_be_sent() -> None:
    assert columns.unsendable([b"a", b"\x01", b"", b"\xff", b"b"]) == [1, 3]
