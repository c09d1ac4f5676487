"""The codecs that are compared: each with the terms it takes and gives itself."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from erlang_port import etf

if TYPE_CHECKING:
    from collections.abc import Callable

    from erlang_port.etf import Term


#: Where `make bench` installs what is measured beside this project and never used by it.
PEERS: Final = Path(__file__).resolve().parents[2] / ".cache/peers"


class Codec(NamedTuple):
    """A codec: `term` makes its own term of bytes that the Erlang VM could have written.

    `encode` and `decode` are None when it has none; `missing` says why it is not there at all.
    """

    name: str
    encode: Callable[[Term], bytes] | None = None
    decode: Callable[[bytes], Term] | None = None
    term: Callable[[Term], Term] = lambda term: term
    missing: str = ""


def megaphone() -> Codec:
    """This project's."""
    return Codec("megaphone", etf.encode, etf.decode)


def erlang_py() -> Codec:
    """erlang_py, pure Python."""

    def load() -> Codec:
        erlang = importlib.import_module("erlang")

        def term(value: Term) -> Term:
            return erlang.binary_to_term(etf.encode(value))

        return Codec(_named("erlang_py"), erlang.term_to_binary, erlang.binary_to_term, term)

    return _load("erlang_py", load)


def erlpack() -> Codec:
    """erlpack, Cython. It has strings where others have binaries, and no tuples of its own."""

    def load() -> Codec:
        _find_in(PEERS)
        module = importlib.import_module("erlpack")
        term = _with_atoms(lambda atom: module.Atom(str(atom)))
        return Codec(_named("erlpack"), module.pack, module.unpack, term)

    return _load("erlpack", load)


def erlport() -> Codec:
    """The codec of erlport, pure Python, from a checkout that ERLPORT_HOME names.

    It knows no atoms in UTF-8, which is how OTP 26 and later write all of them.
    """
    home = os.environ.get("ERLPORT_HOME")
    if home is None:
        return Codec("erlport", missing="ERLPORT_HOME names no checkout (PyPI's is for Python 2)")

    def load() -> Codec:
        _find_in(Path(home, "priv/python3"))
        terms = importlib.import_module("erlport.erlterms")
        term = _with_atoms(lambda atom: terms.Atom(atom.encode()))
        return Codec("erlport", terms.encode, lambda data: terms.decode(data)[0], term)

    return _load("erlport", load)


def _find_in(directory: Path) -> None:
    # Last: what the project itself uses is found where it always is.
    if str(directory) not in sys.path:
        sys.path.append(str(directory))


def _named(package: str) -> str:
    return f"{package} {version(package)}"


def _load(package: str, load: Callable[[], Codec]) -> Codec:
    try:
        return load()
    except (ImportError, SyntaxError, PackageNotFoundError) as error:
        return Codec(package, missing=f"{type(error).__name__}: {error}")


def _with_atoms(make: Callable[[etf.Atom], Term]) -> Callable[[Term], Term]:
    """Gives what makes a peer's term of ours, where only atoms differ."""

    def term(value: Term) -> Term:
        if isinstance(value, etf.Atom):
            return make(value)
        if isinstance(value, tuple):
            return tuple(map(term, value))
        if isinstance(value, list):
            return list(map(term, value))
        return value

    return term
