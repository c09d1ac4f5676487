"""A private node for a benchmark: started, prepared, and nothing of it left afterwards."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from bridge.embedded_node import EmbeddedNode, NodeSettings

if TYPE_CHECKING:
    from types import TracebackType

_COMPILE: Final = """
Dirs = [filename:join(filename:dirname(filename:dirname(code:which(M))), "include")
        || M <- [xmpp, fxml, p1_server, ejabberd_sm]],
Includes = [{{i, D}} || D <- Dirs],
{{ok, Name, Binary}} = compile:file({path}, [binary, report_errors | Includes]),
{{module, Name}} = code:load_binary(Name, {path}, Binary),
ok
"""


class BenchNode:
    """A context manager; inside it the node runs.

    Attributes:
        node: the node.
        home: a directory for whatever goes with it; the node's own is in it.
    """

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="megaphone-bench-")
        self.home = Path(self._directory.name)
        self.node = EmbeddedNode(self.home / "node", self.settings())

    def settings(self) -> NodeSettings:
        """Returns how the node is to be."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Makes the node that has just started what is measured."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.node.start()
            self.prepare()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def load(self, module: Path) -> None:
        """Compiles an Erlang module and loads it into the node."""
        self.expect("ok", self.node.eval(_COMPILE.format(path=json.dumps(str(module))), timeout=60))

    @staticmethod
    def expect(wanted: str, answer: str) -> None:
        """Raises RuntimeError unless the node answered what is wanted."""
        if answer != wanted:
            raise RuntimeError(f"the node answered {answer}")

    def _end(self) -> None:
        try:
            self.node.stop()
        finally:
            self._directory.cleanup()
