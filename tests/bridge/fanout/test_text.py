from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.fanout.text import MAX_ERROR_TEXT, one_line


@given(st.text(max_size=1000))
@settings(deadline=None)
def test_one_printable_line_of_bounded_length(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) == min(len(text), MAX_ERROR_TEXT)


def test_printable_text_stays() -> None:
    assert one_line("line 3: é 👋") == "line 3: é 👋"
