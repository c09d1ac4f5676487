"""Exit reasons, as Python raises them and as Erlang reads them."""

import pytest

from erlang_port.etf import Atom, decode, encode
from erlang_port.otp.reasons import KILL, NORMAL, Exit, as_reason, is_quiet, of_exception


def raised(error):
    with pytest.raises(type(error)) as caught:
        raise error
    return of_exception(caught.value)


def test_an_exception_is_a_term_with_its_traceback():
    (tag, kind, text), lines = decode(encode(raised(ValueError("žluť"))))
    assert (tag, kind, text.decode()) == ("python_error", b"ValueError", "žluť")
    assert b"raise error" in lines[-1]


def test_text_that_no_encoding_knows():
    (_, _, text), _ = raised(ValueError("\ud800"))
    assert text == b"?"


def test_an_exit_is_its_reason():
    assert raised(Exit(("shutdown", 1))) == ("shutdown", 1)


@pytest.mark.parametrize("reason", ["normal", "shutdown", "kill", "killed", "noproc", "timeout"])
def test_otps_own_words_are_atoms(reason):
    assert type(as_reason(reason)) is Atom
    assert type(Exit(reason).reason) is Atom


def test_other_words_stay():
    assert type(as_reason("broken")) is str
    assert as_reason(("normal",)) == ("normal",)


@pytest.mark.parametrize(
    ("reason", "quiet"),
    [
        (NORMAL, True),
        ("shutdown", True),
        (("shutdown", 1), True),
        (("shutdown", 1, 2), False),
        (KILL, False),
        (("broken", 1), False),
        (1, False),
    ],
)
def test_what_is_logged(reason, quiet):
    assert is_quiet(reason) is quiet
