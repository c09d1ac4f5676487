"""Templates: Jinja2's language in its sandbox, compiled once and run over whole batches.

`compile_template` may hang or want any amount of memory: Jinja computes constant expressions while
it compiles, and `{{ 9**(9**9) }}` is one. So it is called in a worker only, under the deadline and
the memory limit of a batch, like everything else here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from jinja2 import TemplateSyntaxError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bridge.fanout import columns as column
from bridge.fanout.batch_loop import RESERVED, BatchLoop
from bridge.fanout.substitution import Substitution, substitution_parts
from bridge.fanout.text import TemplateError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.fanout.text import Rendered

#: Bytes of one template's source. A stanza that ejabberd accepts from a client is at most 64 KiB.
MAX_SOURCE: Final = 64 * 1024

#: The names a template may use, each with the columns that it is made of.
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("user",),
    "server": ("server",),
    "resource": ("resource",),
    "jid": ("user", "server"),
}

#: Statements that need another template, or that mark up what is no markup, with the reason given.
REFUSED: Final[Mapping[type[nodes.Node], str]] = {
    nodes.Include: "include: there is no other template to include",
    nodes.Import: "import: there is no other template to import",
    nodes.FromImport: "import: there is no other template to import",
    nodes.Extends: "extends: there is no other template to extend",
    nodes.Block: "block: there is no other template that could fill it",
    nodes.ScopedEvalContextModifier: "autoescape: the node escapes every text once",
}

#: Filters that escape or claim to have escaped; the node does it, once.
ESCAPING_FILTERS: Final = frozenset({"e", "escape", "forceescape", "safe", "urlize", "xmlattr"})

#: Jinja's global functions that templates keep; `lipsum` is not among them.
GLOBALS: Final = ("range", "dict", "namespace", "cycler", "joiner")


class Template(Protocol):
    """A compiled template."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns a batch must bring, sorted."""

    def render(self, values: Mapping[str, bytes], count: int, limit: int) -> Rendered:
        """Make the text of every recipient of a batch.

        Args:
            values: the columns by name, those of `columns` at least, each of `count` values.
            count: recipients in the batch, at least 1.
            limit: bytes that the texts may have together, their separators counted.

        Raises:
            TextTooLargeError: the texts would be longer than `limit`.
            MemoryError: the template wants more than this process may have.
        """


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, cache_size=0
    )
    environment.globals = {name: environment.globals[name] for name in GLOBALS}
    environment.filters = {
        name: function
        for name, function in environment.filters.items()
        if name not in ESCAPING_FILTERS
    }
    return environment


_ENVIRONMENT: Final = _environment()


def compile_template(source: bytes) -> Template:
    """Compile a template.

    Args:
        source: Jinja2, as UTF-8.

    Raises:
        TemplateError: it is no template, or one that is refused; the text says what, and the line.
        MemoryError: compiling wants more than this process may have.
    """
    text = _source_text(source)
    try:
        tree = _ENVIRONMENT.parse(text)
        parts = substitution_parts(tree, NAMES)
        if parts is not None:
            return Substitution(parts, NAMES)
        _check_statements(tree)
        names = _names_used(tree)
        return BatchLoop(_ENVIRONMENT, tree, {name: NAMES[name] for name in names})
    except TemplateSyntaxError as error:
        raise TemplateError(_at(error.lineno, error.message or "syntax error")) from None
    except RecursionError:
        raise TemplateError("it is nested too deeply") from None
    except TemplateError:
        raise
    except ValueError as error:
        # A constant that cannot be written out, such as a number of 5,000 digits.
        raise TemplateError(one_line(str(error))) from None
    except SyntaxError as error:
        # What Python's own compiler refuses, such as 21 loops inside each other.
        raise TemplateError(error.msg) from None


def _source_text(source: bytes) -> str:
    if len(source) > MAX_SOURCE:
        raise TemplateError(f"it has {len(source)} bytes, the limit is {MAX_SOURCE}")
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise TemplateError(_at(line, "it is not UTF-8")) from None
    if not column.is_sendable(source):
        for number, line_text in enumerate(source.split(b"\n"), 1):
            if not column.is_sendable(line_text):
                raise TemplateError(_at(number, "it holds a character that XML 1.0 forbids"))
    return text


def _check_statements(tree: nodes.Template) -> None:
    for kind, reason in REFUSED.items():
        for node in tree.find_all(kind):
            raise TemplateError(_at(node.lineno, f"refused: {reason}"))
    for used in tree.find_all(nodes.Filter):
        if used.name in ESCAPING_FILTERS:
            raise TemplateError(
                _at(used.lineno, f"refused: filter {used.name}: the node escapes every text once")
            )


def _names_used(tree: nodes.Template) -> list[str]:
    undeclared = find_undeclared_variables(tree)
    unknown = undeclared - NAMES.keys()
    # A name that is set in one branch only counts as undeclared too: that is the author's own
    # matter, and an error for a recipient who takes the other branch.
    unknown -= {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    unknown -= {macro.name for macro in tree.find_all(nodes.Macro)}
    # Outside of the author's own loops it is the loop over the batch, which knows the recipients
    # before and after; a macro or parameter of that name elsewhere changes nothing about it.
    unknown |= undeclared & {"loop"}
    loaded = [name for name in tree.find_all(nodes.Name) if name.ctx == "load"]
    for name in loaded:
        if name.name in unknown or name.name in RESERVED or name.name == "self":
            known = ", ".join(NAMES)
            raise TemplateError(
                _at(name.lineno, f"unknown name {name.name!r}; a template may use {known}")
            )
    if unknown:
        raise TemplateError(f"unknown name {min(unknown)!r}; a template may use {', '.join(NAMES)}")
    used = {name.name for name in loaded}
    return [name for name in NAMES if name in used]


def _at(line: int | None, text: str) -> str:
    return one_line(f"line {line}: {text}" if line else text)
