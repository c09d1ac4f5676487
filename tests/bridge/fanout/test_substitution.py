import pytest

from bridge.fanout.substitution import Substitution
from bridge.fanout.template import NAMES, compile_template
from bridge.fanout.text import TextTooLargeError

VALUES = {"user": b"a\0b\0", "server": b"s\0s\0s", "resource": b"\0\0r"}


@pytest.mark.parametrize(
    ("parts", "texts"),
    [
        ([], b"\0\0"),
        ([b"x"], b"x\0x\0x"),
        (["user"], b"a\0b\0"),
        ([b"<", "user", b">"], b"<a>\0<b>\0<>"),
        (["user", "user"], b"aa\0bb\0"),
        (["user", b"-", "resource"], b"a-\0b-\0-r"),
        ([b"(", "resource", "user", b")"], b"(a)\0(b)\0(r)"),
        (["jid"], b"a@s\0b@s\0@s"),
        (["server"], b"s\0s\0s"),
    ],
)
def test_substitution(parts: list[bytes | str], texts: bytes) -> None:
    rendered = Substitution(parts, NAMES).render(VALUES, 3, 100)
    assert (rendered.texts, rendered.dropped) == (texts, {})


def test_the_size_is_known_before_anything_is_built() -> None:
    template = Substitution(["user", b"x" * 1000, "server"], NAMES)
    size = len(template.render(VALUES, 3, 1 << 20).texts)
    assert template.render(VALUES, 3, size).dropped == {}
    with pytest.raises(TextTooLargeError):
        template.render(VALUES, 3, size - 1)


def test_the_columns_it_needs() -> None:
    assert Substitution(["jid", b"x"], NAMES).columns == ("server", "user")
    assert Substitution([b"x"], NAMES).columns == ()


@pytest.mark.parametrize(
    "source", ["", "x", "{{ user }}", "{# c #}{{ jid }}{% raw %}{{{% endraw %}"]
)
def test_it_is_chosen_for_literals_and_names(source: str) -> None:
    assert isinstance(compile_template(source.encode()), Substitution)


@pytest.mark.parametrize("source", ["{{ user|upper }}", "{{ 'x' }}", "{% if user %}{% endif %}"])
def test_it_is_not_chosen_for_anything_else(source: str) -> None:
    assert not isinstance(compile_template(source.encode()), Substitution)
