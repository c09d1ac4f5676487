"""Erlang's external term format: bytes to terms and back.

The format is described in OTP's ERTS documentation, "External Term Format". The codec is sans-I/O,
in pure Python and bounded: whatever the bytes, `decode` gives a term or raises `EtfError`.
"""

from erlang_port.etf.decode import decode
from erlang_port.etf.encode import encode
from erlang_port.etf.errors import EtfError
from erlang_port.etf.limits import Limits
from erlang_port.etf.terms import (
    Atom,
    BitString,
    Export,
    Fun,
    ImproperList,
    LocalTerm,
    Map,
    NativeRecord,
    Pid,
    Port,
    Reference,
    Term,
)

__all__ = [
    "Atom",
    "BitString",
    "EtfError",
    "Export",
    "Fun",
    "ImproperList",
    "Limits",
    "LocalTerm",
    "Map",
    "NativeRecord",
    "Pid",
    "Port",
    "Reference",
    "Term",
    "decode",
    "encode",
]
