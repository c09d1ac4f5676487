"""The general path: a template's syntax tree inside a loop over the batch.

Setting a rendering up costs Jinja more than a short text does; with the loop inside the template,
that is paid once a batch. A recipient for whom the template raises, or whose text holds a NUL, must
not cost the others theirs: then the batch is rendered once more, a recipient at a time.
"""

from __future__ import annotations

import sys
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Final

from jinja2 import nodes

from bridge.fanout import columns as column
from bridge.fanout.text import Rendered, TextTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from jinja2.sandbox import SandboxedEnvironment

    from bridge.fanout.text import DropReason

#: The context's name for what the loop runs over, and the loop's own for a template without names.
#: No template may name them: it would see the other recipients.
_ROWS: Final = "_megaphone_rows"
_ROW: Final = "_megaphone_row"
RESERVED: Final = frozenset({_ROWS, _ROW})

_SEPARATOR: Final = column.SEPARATOR.decode()

#: Pieces of output put together at a time; the size is looked at in between.
_PIECES: Final = 4096


class BatchLoop:
    """A template of any kind.

    Args:
        environment: the sandbox that the tree was parsed in.
        tree: the syntax tree, checked.
        names: the names that the template uses, each with the columns that it is made of.

    Raises:
        jinja2.TemplateSyntaxError: the compiler finds what the parser did not, an unknown filter
            for one.
    """

    def __init__(
        self,
        environment: SandboxedEnvironment,
        tree: nodes.Template,
        names: Mapping[str, Sequence[str]],
    ) -> None:
        self._names = {name: tuple(parts) for name, parts in names.items()}
        self.columns = tuple(sorted({part for parts in names.values() for part in parts}))
        source = environment.compile(_looped(environment, tree, list(self._names)))
        self._template = environment.template_class.from_code(
            environment, source, environment.make_globals(None)
        )

    def render(self, values: Mapping[str, bytes], count: int, limit: int) -> Rendered:
        """See `bridge.fanout.template.Template.render`."""
        try:
            decoded = {name: values[name].decode().split(_SEPARATOR) for name in self.columns}
            text = self._run(self._rows(decoded, count), limit)
            texts = text.encode()[:-1]
        except (TextTooLargeError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - a template may raise anything; each recipient is told apart below
            return self._one_by_one(values, count, limit)
        if len(texts) > limit:
            raise TextTooLargeError
        if texts.count(column.SEPARATOR) == count - 1 and column.is_clean(texts):
            return Rendered(texts)
        return self._one_by_one(values, count, limit)

    def error(self, values: Mapping[str, bytes]) -> str:
        """Say what the template raises for one recipient, and in which line.

        The text may hold that recipient's values, so this is for samples only.

        Args:
            values: the columns by name, of one value each.
        """
        decoded = {name: [values[name].decode()] for name in self.columns}
        try:
            self._run(self._rows(decoded, 1), sys.maxsize - 1)
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            line = self._line(error.__traceback__)
            return f"line {line}: {type(error).__name__}: {error}"
        return "it fails"

    def _line(self, traceback: TracebackType | None) -> int:
        """Find the innermost line of the template in a traceback."""
        line = 1
        while traceback is not None:
            if traceback.tb_frame.f_globals is self._template.root_render_func.__globals__:
                line = self._template.get_corresponding_lineno(traceback.tb_lineno)
            traceback = traceback.tb_next
        return line

    def _rows(self, values: Mapping[str, Sequence[str]], count: int) -> Iterable[Any]:
        """What the loop runs over: a string a recipient for one name, a tuple for several."""
        named = [
            values[parts[0]] if len(parts) == 1 else map(_bare_jid, *(values[p] for p in parts))
            for parts in self._names.values()
        ]
        if not named:
            return repeat("", count)
        return named[0] if len(named) == 1 else zip(*named, strict=True)

    def _run(self, rows: Iterable[Any], limit: int) -> str:
        context = self._template.new_context({_ROWS: rows})
        pieces = self._template.root_render_func(context)
        return _collected(pieces, limit + 1)

    def _one_by_one(self, values: Mapping[str, bytes], count: int, limit: int) -> Rendered:
        split = [column.split(values[name], count) for name in self.columns]
        rows: Iterable[tuple[bytes, ...]] = zip(*split, strict=True) if split else repeat((), count)
        texts: list[bytes] = []
        dropped: dict[int, DropReason] = {}
        left = limit - (count - 1)
        for index, row in enumerate(rows):
            text = self._one(row, left)
            if isinstance(text, str):
                dropped[index] = text
                text = b""
            left -= len(text)
            if left < 0:
                raise TextTooLargeError
            texts.append(text)
        return Rendered(column.join(texts), dropped)

    def _one(self, row: Sequence[bytes], limit: int) -> bytes | DropReason:
        try:
            values = {name: [value.decode()] for name, value in zip(self.columns, row, strict=True)}
        except UnicodeDecodeError:
            return "invalid"
        try:
            text = self._run(self._rows(values, 1), limit)
        except (TextTooLargeError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - a template may raise anything
            return "template"
        try:
            encoded = text[:-1].encode()
        except UnicodeEncodeError:
            # A string literal may name a surrogate, which is no character.
            return "invalid"
        return encoded if column.is_sendable(encoded) else "invalid"


def _looped(
    environment: SandboxedEnvironment, tree: nodes.Template, names: Sequence[str]
) -> nodes.Template:
    """Wrap a template in a loop; what it sets then lasts for one recipient, as it must."""
    targets: list[nodes.Expr] = [nodes.Name(name, "store") for name in names or [_ROW]]
    target = targets[0] if len(targets) == 1 else nodes.Tuple(targets, "store")
    body = [*tree.body, nodes.Output([nodes.TemplateData(_SEPARATOR)])]
    loop = nodes.For(target, nodes.Name(_ROWS, "load"), body, [], None, False)
    looped = nodes.Template([loop], lineno=1)
    looped.set_environment(environment)
    loop.set_lineno(1)
    return looped


def _bare_jid(user: str, server: str) -> str:
    return f"{user}@{server}"


def _collected(pieces: Iterator[str], limit: int) -> str:
    """Put the pieces together.

    Raises:
        TextTooLargeError: there are more than `limit` characters.
    """
    parts: list[str] = []
    size = 0
    while some := list(islice(pieces, _PIECES)):
        part = "".join(some)
        size += len(part)
        if size > limit:
            raise TextTooLargeError
        parts.append(part)
    return "".join(parts)
