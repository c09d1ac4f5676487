"""The codecs that are compared: each with the terms it takes and gives itself."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

from erlang_port import etf

if TYPE_CHECKING:
    from collections.abc import Callable

    from erlang_port.etf import Term


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
        module = importlib.import_module("erlpack")
        atom = module.Atom

        def term(value: Term) -> Term:
            if isinstance(value, etf.Atom):
                return atom(str(value))
            if isinstance(value, tuple):
                return tuple(map(term, value))
            if isinstance(value, list):
                return list(map(term, value))
            return value

        return Codec(_named("erlpack"), module.pack, module.unpack, term)

    return _load("erlpack", load)


def erlport() -> Codec:
    """The codec of erlport, pure Python."""

    def load() -> Codec:
        terms = importlib.import_module("erlport.erlterms")

        def term(value: Term) -> Term:
            return terms.decode(etf.encode(value))[0]

        return Codec(_named("erlport"), terms.encode, lambda data: terms.decode(data)[0], term)

    return _load("erlport", load)


def _named(package: str) -> str:
    return f"{package} {version(package)}"


def _load(package: str, load: Callable[[], Codec]) -> Codec:
    try:
        codec = load()
    except (ImportError, SyntaxError, PackageNotFoundError) as error:
        return Codec(package, missing=f"{type(error).__name__}: {error}")
    probe = (etf.Atom("ok"), [b"x", (b"y", b"z")])
    for way, work in (
        ("decode", lambda: codec.decode and codec.decode(etf.encode(probe))),
        ("encode", lambda: codec.encode and codec.encode(codec.term(probe))),
    ):
        try:
            work()
        # A peer that is broken on this Python is shown as such, whatever it raises.
        except Exception as error:  # noqa: BLE001
            return Codec(package, missing=f"{way} raises {type(error).__name__}: {error}")
    return codec
