import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.runtime import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bridge.fanout import columns
from bridge.fanout.batch_loop import BatchLoop
from bridge.fanout.substitution import Substitution
from bridge.fanout.template import MAX_SOURCE, NAMES, compile_template
from bridge.fanout.text import Rendered, TemplateError

LIMIT = 1 << 22

naive = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)

#: Values as they may come: odd ones, forbidden ones, what is no UTF-8; never a NUL.
value = st.one_of(
    st.sampled_from([b"", b"juliet", b"a b", b"<&>", b"{{ user }}", b"\x01", b"\xff", b"\r\n"]),
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "replace").replace(b"\0", b"")),
    st.binary(max_size=4).map(lambda data: data.replace(b"\0", b"")),
)
row = st.tuples(value, value, value)
rows = st.lists(row, min_size=1, max_size=8)

literal = st.sampled_from(["", "Hello ", "\n", "\r\n", " é👋 ", "{ user }", "<b>&amp;", "%s {0}"])
name = st.sampled_from(sorted(NAMES))
substitution = st.one_of(literal, name.map(lambda n: f"{{{{ {n} }}}}"))
#: Pieces with which a template takes the general path; several raise for some of the values.
statement = st.sampled_from(
    [
        "{% set x = user %}",
        "{% set user = user ~ server %}",
        "{% if user %}{% set y = user|upper %}{% endif %}",
        "{{ x is defined }}",
        "{{ y|default('no') }}",
        "{{ y }}",
        "{% for user in [1, user] %}{{ loop.index }}{{ user }}{% endfor %}",
        "{% for x in user %}{{ x }}{% else %}none{% endfor %}",
        "{% macro m(a) %}[{{ a }}{{ server }}]{% endmacro %}{{ m(user) }}",
        "{% call m('x') %}{% endcall %}",
        "{% set n = namespace(i=0) %}{% for a in user %}{% set n.i = 1 %}{% endfor %}{{ n.i }}",
        "{% with z = resource %}{{ z|length }}{% endwith %}",
        "{{ user[3] }}",
        "{{ 6 // (user|length) }}",
        "{{ '\\x00' if user == 'juliet' }}",
        "{{ '\\x00' }}",
        "{{ '\\ud800' if not user }}",
        "{{ '\\x07' if resource }}",
        "{{ user|replace('\\x01', '') }}",
        "{{ '%s' % user }}{{ '{}'.format(server) }}",
        "{% filter upper %}{{ user }} x{% endfilter %}",
        "{%- raw %} {{ user }} {% endraw -%}",
        "{# nothing #}",
        "{% if server == resource %}{{ none.x }}{% else %}same{% endif %}",
        "{{ cycler('a', 'b').next() }}",
    ]
)
sources = st.lists(st.one_of(substitution, statement), max_size=6).map("".join)


def one(source: str, recipient: tuple[bytes, bytes, bytes]) -> bytes | str:
    """What one recipient gets by Jinja's own render(), or why nothing."""
    used = compile_template(source.encode()).columns
    wanted = dict(zip(["user", "server", "resource"], recipient, strict=True))
    try:
        values = {name: wanted[name].decode() for name in used}
    except UnicodeDecodeError:
        return "invalid"
    if {"user", "server"} <= values.keys():
        values["jid"] = f"{values['user']}@{values['server']}"
    try:
        text = naive.from_string(source).render(values)
    except Exception:  # noqa: BLE001 - a template may raise anything
        return "template"
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return "invalid"
    return encoded if columns.is_sendable(encoded) else "invalid"


def render(source: str, recipients: list[tuple[bytes, bytes, bytes]]) -> Rendered:
    batch = {
        name: columns.join(values)
        for name, values in zip(
            ["user", "server", "resource"], zip(*recipients, strict=True), strict=True
        )
    }
    return compile_template(source.encode()).render(batch, len(recipients), LIMIT)


def assert_as_naive(source: str, recipients: list[tuple[bytes, bytes, bytes]]) -> None:
    rendered = render(source, recipients)
    expected = [one(source, recipient) for recipient in recipients]
    texts = columns.split(rendered.texts, len(recipients))
    assert texts == [text if isinstance(text, bytes) else b"" for text in expected]
    assert rendered.dropped == {
        index: text for index, text in enumerate(expected) if isinstance(text, str)
    }


@given(st.lists(substitution, max_size=6).map("".join), rows)
@settings(deadline=None)
def test_plain_substitutions_are_what_jinja_renders(
    source: str, recipients: list[tuple[bytes, bytes, bytes]]
) -> None:
    assert isinstance(compile_template(source.encode()), Substitution)
    assert_as_naive(source, recipients)


@given(st.lists(substitution, max_size=6).map("".join), rows)
@settings(deadline=None)
def test_the_fast_path_and_the_general_one_agree(
    source: str, recipients: list[tuple[bytes, bytes, bytes]]
) -> None:
    general = "{% if true %}{% endif %}" + source
    assert isinstance(compile_template(general.encode()), BatchLoop)
    assert render(source, recipients) == render(general, recipients)


@given(sources, rows)
@settings(max_examples=300, deadline=None)
def test_any_template_is_what_jinja_renders(
    source: str, recipients: list[tuple[bytes, bytes, bytes]]
) -> None:
    try:
        compile_template(source.encode())
    except TemplateError:
        return  # x, y or m without what defines it: refused, see below
    assert_as_naive(source, recipients)


def test_equal_values_in_a_column() -> None:
    recipients = [(b"a", b"example.org", b""), (b"b", b"example.org", b"")]
    assert render("{{ jid }}/{{ resource }}", recipients).texts == b"a@example.org/\0b@example.org/"


def test_a_forbidden_value_shifts_nobody() -> None:
    recipients = [(b"a", b"s", b"r"), (b"\x02", b"s", b"r"), (b"c", b"s", b"r")]
    for source in ("{{ user }}", "{{ user }}{{ resource }}", "{{ user|lower }}"):
        rendered = render(source, recipients)
        texts = columns.split(rendered.texts, 3)
        assert (texts[0][:1], texts[1], texts[2][:1]) == (b"a", b"", b"c")
        assert rendered.dropped == {1: "invalid"}


def test_what_a_template_sets_lasts_for_one_recipient() -> None:
    source = "{% if user == 'a' %}{% set seen = 'A' %}{% endif %}{{ seen|default('-') }}"
    assert render(source, [(b"a", b"", b""), (b"b", b"", b"")]).texts == b"A\0-"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ user", "line 1: unexpected end of template"),
        ("\n\n{{ nickname }}", "line 3: unknown name 'nickname'; .* user, server, resource, jid"),
        ("{{ _megaphone_rows }}", "unknown name"),
        ("{% if user %}{% set _megaphone_rows = 1 %}{% endif %}{{ _megaphone_rows }}", "unknown"),
        ("{{ loop.index }}", "line 1: unknown name 'loop'"),
        ("{{ loop.previtem }}{% macro loop() %}{% endmacro %}", "line 1: unknown name 'loop'"),
        ("{{ loop.previtem }}{% macro m(loop) %}{% endmacro %}", "line 1: unknown name 'loop'"),
        ("{% if user %}{% set loop = 1 %}{% endif %}{{ loop.nextitem }}", "unknown name 'loop'"),
        ("{{ self }}", "unknown name 'self'"),
        ("{{ lipsum() }}", "unknown name 'lipsum'"),
        ("\n{% include 'x' %}", "line 2: refused: include"),
        ("{% import 'x' as x %}", "line 1: refused: import"),
        ("{% from 'x' import y %}", "line 1: refused: import"),
        ("{% extends 'x' %}", "line 1: refused: extends"),
        ("{% block x %}{% endblock %}", "line 1: refused: block"),
        ("{% autoescape true %}{% endautoescape %}", "line 1: refused: autoescape"),
        ("{{ user|e }}", "line 1: refused: filter e: the node escapes"),
        ("{{ user|nope }}", "line 1: No filter named 'nope'"),
        ("{{ user is nope }}", "line 1: No test named 'nope'"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested too deeply"),
        ("{% for a in [1] %}" * 25 + "{% endfor %}" * 25, "nested"),
        ("x\n\x07", "line 2: it holds a character that XML 1.0 forbids"),
        ("\0", "line 1: it holds a character"),
        ("x" * (MAX_SOURCE + 1), f"the limit is {MAX_SOURCE}"),
    ],
)
def test_a_refusal_says_what_and_where(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        compile_template(source.encode())


def test_what_is_no_utf_8_is_refused() -> None:
    with pytest.raises(TemplateError, match="line 2: it is not UTF-8"):
        compile_template(b"\n\xff")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ user|attr('__class__') }}",
        "{{ '{0.__class__}'.format(user) }}",
        "{{ '{a.__class__}'.format_map({'a': user}) }}",
        "{{ ['{0.__class__}']|map('format', user)|first }}{{ ''['__class__'] }}",
        "{{ range.__globals__ }}",
        "{{ cycler.__init__ }}",
        "{{ [1].append(2) }}",
        "{{ range(10**8) }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    assert render(source, [(b"a", b"b", b"c")]) == Rendered(b"", {0: "template"})


@pytest.mark.parametrize("source", ["{{ 10**5000 }}", "{{ " + "9" * 5000 + " }}"])
def test_numbers_that_python_does_not_write_out_are_refused(source: str) -> None:
    with pytest.raises(TemplateError, match="4300 digits"):
        compile_template(source.encode())
