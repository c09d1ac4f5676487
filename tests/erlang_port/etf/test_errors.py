from erlang_port.etf import EtfError


def test_the_error_says_what_and_where():
    error = EtfError("no term", 7)
    assert isinstance(error, ValueError)
    assert (error.reason, error.offset, str(error)) == ("no term", 7, "no term (at offset 7)")
