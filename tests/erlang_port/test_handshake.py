import hashlib
import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlang_port import handshake
from erlang_port.handshake import (
    MAX_SECRET,
    MIN_SECRET,
    Accepted,
    Handshake,
    HandshakeError,
    SecretError,
    WrongSecret,
    read_secret,
)
from tests.support.sidecar_node import MAGIC, SECRET, acceptance, proof
from tests.support.tools import require_tool

SOURCE = Path(__file__).parents[2] / "mod_megaphone" / "src"
INSTANCE = bytes(range(16))
NODE = bytes(range(100, 132))


def begun(secret=SECRET, identity="one", epoch=7):
    """A handshake after its first message: it, and the random number that it has drawn."""
    shaking = Handshake(secret, identity, INSTANCE, epoch)
    opening = shaking.open()
    assert opening[:10] == b"megaphone\x01"
    assert len(opening) == 42
    return shaking, opening[10:]


def challenged(**settings):
    shaking, sidecar = begun(**settings)
    shaking.prove(MAGIC + NODE)
    return shaking, sidecar


def hmac_sha256(key, message):
    """RFC 2104, section 2, by the letter."""
    key = key.ljust(64, b"\0") if len(key) <= 64 else hashlib.sha256(key).digest().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).digest()


@pytest.mark.parametrize("secret", [b"k" * 32, b"k" * 64, b"k" * 65, bytes(range(256)) * 16])
def test_the_proof_is_that_of_the_document(secret):
    shaking, sidecar = begun(secret, "an-identity", 0x0102030405)
    claim = INSTANCE + bytes([0, 0, 0, 1, 2, 3, 4, 5]) + b"an-identity"
    said = b"megaphone\x01" + b"\x07sidecar" + sidecar + NODE + claim
    assert shaking.prove(MAGIC + NODE) == hmac_sha256(secret, said) + claim


def test_known_vectors(monkeypatch):
    """Fixed numbers and what `openssl dgst -sha256 -mac HMAC` makes of them."""
    monkeypatch.setattr(handshake.secrets, "token_bytes", lambda size: b"S" * size)
    shaking = Handshake(b"K" * 32, "known", b"I" * 16, 42)
    assert shaking.open() == b"megaphone\x01" + b"S" * 32
    sent = shaking.prove(b"megaphone\x01" + b"N" * 32)
    assert sent[:32].hex() == VECTORS["sidecar"]
    assert sent[32:] == b"I" * 16 + bytes(7) + b"\x2a" + b"known"
    told = struct.pack(">II", 1500, 4000)
    answer = b"\0" + bytes.fromhex(VECTORS["node"]) + told
    assert shaking.accepted(answer) == Accepted(1.5, 4.0)


VECTORS = {
    "sidecar": "fac23dd636abd5c78625ac4a9b5110a60117a5042a3c4b4d23defdada1d61d2f",
    "node": "80559d5eed7a71e5b095e7cd1c50b60d7fb6320517459800d99ef67fe79cf204",
}


def test_each_handshake_has_a_number_of_its_own():
    assert len({begun()[1] for _ in range(100)}) == 100


def test_a_node_that_knows_the_secret_is_believed():
    shaking, sidecar = challenged()
    answer = acceptance(SECRET, sidecar, NODE, 250, 3_600_000)
    assert shaking.accepted(answer) == Accepted(0.25, 3600.0)


@pytest.mark.parametrize("secret", [b"another secret of thirty-two bytes and more", SECRET + b"\n"])
def test_a_node_that_does_not_know_it_is_not(secret):
    shaking, sidecar = challenged()
    with pytest.raises(HandshakeError, match="it is not the node") as caught:
        shaking.accepted(acceptance(secret, sidecar, NODE))
    # It is no reason to wait for another secret of one's own.
    assert not isinstance(caught.value, WrongSecret)


@pytest.mark.parametrize("bit", [0, 7, 8 * 31, 8 * 32, 8 * 39 + 7])
def test_no_bit_of_the_answer_can_be_changed(bit):
    shaking, sidecar = challenged()
    answer = bytearray(acceptance(SECRET, sidecar, NODE))
    answer[1 + bit // 8] ^= 1 << bit % 8
    with pytest.raises(HandshakeError, match="it is not the node"):
        shaking.accepted(bytes(answer))


def test_what_it_said_itself_proves_nothing():
    """Reflection: its own number and its own proof, given back."""
    shaking, sidecar = begun()
    sent = shaking.prove(MAGIC + sidecar)
    told = struct.pack(">II", 1000, 10_000)
    for reflected in (sent[:32], proof(SECRET, b"sidecar", sidecar, sidecar, told)):
        with pytest.raises(HandshakeError, match="it is not the node"):
            shaking.accepted(b"\0" + reflected + told)


def test_what_was_said_to_another_proves_nothing():
    _, earlier = challenged()
    shaking, _ = challenged()
    with pytest.raises(HandshakeError, match="it is not the node"):
        shaking.accepted(acceptance(SECRET, earlier, NODE))


@pytest.mark.parametrize("code", range(1, 7))
@pytest.mark.parametrize("when", ["challenge", "answer"])
def test_refusals(code, when):
    shaking, _ = begun() if when == "challenge" else challenged()
    take = shaking.prove if when == "challenge" else shaking.accepted
    with pytest.raises(
        HandshakeError, match=r"^the node refuses this sidecar: kein Zutritt, §1$"
    ) as e:
        take(bytes([code]) + "kein Zutritt, §1".encode())
    assert isinstance(e.value, WrongSecret) == (code == 1)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0",
        b"\x07unknown code",
        b"\xffunknown code",
        b"\x01two\nlines",
        b"\x01\x1b[31mred",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        MAGIC + NODE + b"x",
        MAGIC + NODE[1:],
        b"megaphone\x02" + NODE,
        b"\0" + bytes(39),
        b"\0" + bytes(41),
    ],
)
def test_what_is_no_node_s_is_told_so_and_not_repeated(message):
    for shaking, take in ((begun()[0], "prove"), (challenged()[0], "accepted")):
        with pytest.raises(HandshakeError, match="speaks no handshake of a node's") as caught:
            getattr(shaking, take)(message)
        assert not isinstance(caught.value, WrongSecret)


@given(st.binary(max_size=1100))
def test_any_bytes_are_an_error_of_the_handshake(message):
    shaking, _ = begun()
    if len(message) != 42 or not message.startswith(MAGIC):
        with pytest.raises(HandshakeError) as caught:
            shaking.prove(message)
        assert str(caught.value).isprintable()
    shaking, _ = challenged()
    with pytest.raises(HandshakeError) as caught:
        shaking.accepted(message)
    assert str(caught.value).isprintable()


@given(st.integers(1, 6), st.text(max_size=200))
def test_a_refusal_never_breaks_a_log_line(code, text):
    with pytest.raises(HandshakeError) as caught:
        begun()[0].prove(bytes([code]) + text.encode(errors="replace"))
    assert str(caught.value).isprintable()


# The secret's file.


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"s" * 32, b"s" * 32),
        (b"s" * 32 + b"\n", b"s" * 32),
        (b"s" * 32 + b"\r\n", b"s" * 32),
        (b"s" * 32 + b" \n", b"s" * 32 + b" "),
        (b"\n" + b"s" * 31, b"\n" + b"s" * 31),
        (bytes(range(128, 168)), bytes(range(128, 168))),
        (b"s" * MAX_SECRET, b"s" * MAX_SECRET),
        (b"s" * MAX_SECRET + b"\r\n", b"s" * MAX_SECRET),
    ],
)
def test_a_secret(tmp_path, content, secret):
    file = tmp_path / "secret"
    file.write_bytes(content)
    assert read_secret(file) == secret


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", f"holds 0 bytes, and a secret has {MIN_SECRET} at least: make one with 'openssl"),
        (b"\n\n", "holds 0 bytes"),
        (b"s" * 31 + b"\n", "holds 31 bytes"),
        (b"s" * (MAX_SECRET + 1), f"holds more than {MAX_SECRET} bytes"),
        (b"s" * 100_000, f"holds more than {MAX_SECRET} bytes"),
    ],
    ids=["empty", "lines", "short", "long", "longer"],
)
def test_no_secret(tmp_path, content, message):
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(SecretError, match=message) as caught:
        read_secret(file)
    assert str(caught.value).startswith(str(file))
    # What there is of one is nobody's to read in a log.
    assert "sssss" not in str(caught.value)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(SecretError, match=r"is not there: make one with 'openssl rand -hex 32 >"):
        read_secret(tmp_path / "none")
    with pytest.raises(SecretError, match=r"cannot be read by this user: Is a directory"):
        read_secret(tmp_path)
    if os.getuid() != 0:
        (tmp_path / "closed").touch(0o000)
        with pytest.raises(SecretError, match=r"cannot be read by this user: Permission denied"):
            read_secret(tmp_path / "closed")


# The real other end.

_ERLANG = """
    Line = fun() -> binary:decode_hex(list_to_binary(string:trim(io:get_line("")))) end,
    Say = fun(B) -> io:format("~s~n", [binary:encode_hex(iolist_to_binary(B))]) end,
    {ok, Secret} = megaphone_handshake:secret(hd(init:get_plain_arguments())),
    {ok, Challenge, Shaking} = megaphone_handshake:opened(Line(), megaphone_handshake:new()),
    Say(Challenge),
    case megaphone_handshake:proved(Line(), Secret, Shaking) of
        {ok, #{identity := Identity, instance := Instance, epoch := Epoch}} ->
            Say([Identity, Instance, <<Epoch:64>>]),
            Times = #{heartbeat_interval => 1000, heartbeat_timeout => 2000},
            Say(megaphone_handshake:accept(Times, Secret, Shaking));
        {error, Why} ->
            Say(atom_to_binary(Why)),
            Say(megaphone_handshake:refuse(Why, <<"no">>))
    end,
    halt().
"""


@pytest.fixture(scope="module")
def beams(tmp_path_factory):
    require_tool("erl")
    place = tmp_path_factory.mktemp("beams")
    source = SOURCE / "megaphone_handshake.erl"
    subprocess.run(["erlc", "-o", place, source], check=True, timeout=60)
    return place


@pytest.mark.parametrize("ours", ["the same", "another"])
def test_erlang_s_end_and_this_one_agree(tmp_path, beams, ours):
    file = tmp_path / "secret"
    file.write_bytes(os.urandom(48).hex().encode() + b"\r\n")
    secret = read_secret(file) if ours == "the same" else b"x" * 32
    shaking = Handshake(secret, "tûrk".encode().hex(), INSTANCE, 2**48 - 1)
    command = ["erl", "-noshell", "-pa", beams, "-eval", _ERLANG, "-extra", file]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as erlang:

        def say(message):
            erlang.stdin.write(message.hex() + "\n")

        def heard():
            return bytes.fromhex(erlang.stdout.readline())

        say(shaking.open())
        say(shaking.prove(heard()))
        if ours == "the same":
            assert heard() == b"74c3bb726b" + INSTANCE + (2**48 - 1).to_bytes(8, "big")
            assert shaking.accepted(heard()) == Accepted(1.0, 2.0)
        else:
            assert heard() == b"secret"
            with pytest.raises(WrongSecret, match="the node refuses this sidecar: no"):
                shaking.accepted(heard())
        erlang.stdin.close()
        assert erlang.wait(20) == 0
