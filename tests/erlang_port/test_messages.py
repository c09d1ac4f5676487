import base64
import re
import subprocess
from pathlib import Path

import pytest

from erlang_port import messages
from erlang_port.etf import Atom, EtfError, decode, encode
from erlang_port.messages import (
    MESSAGES,
    BatchCancel,
    BatchFailed,
    Call,
    Cast,
    Credit,
    Heartbeat,
    Hello,
    Log,
    MessageError,
    Replies,
    Reply,
    Signal,
    Signals,
    costs_credit,
    decode_message,
    encode_message,
)
from tests.support.tools import require_tool

ROOT = Path(__file__).parents[2]

EXAMPLES = {
    "hello": Hello({b"protocol": [1]}),
    "heartbeat": Heartbeat(7, 12),
    "credit": Credit(4096),
    "log": Log("info", b"stdout", b"a line"),
    "call": Call(3, b"node", Atom("status"), 2000),
    "cast": Cast(b"node", [1, 2]),
    "replies": Replies([Reply(1, True, encode(1)), Reply(2, False, encode(2))]),
    "signals": Signals([Signal(1, Atom("call"), 7, encode(1)), Signal(2, Atom("info"), 0, b"")]),
    "batch": messages.batch(b"b1", 0, b"body"),
    "batch_done": messages.batch_done(b"b1", 0, b"body"),
    "batch_failed": BatchFailed(b"b1", 4, "memory", b"why"),
    "batch_cancel": BatchCancel(b"b1"),
}


def test_there_is_an_example_of_each():
    assert set(EXAMPLES) == set(MESSAGES)


@pytest.mark.parametrize("tag", MESSAGES)
def test_a_message_comes_back_as_it_went(tag):
    message = EXAMPLES[tag]
    payload = encode_message(message)
    assert decode_message(payload) == message
    term = decode(payload)
    assert (term[0], len(term)) == (tag, MESSAGES[tag].arity)
    assert costs_credit(message) is MESSAGES[tag].credit


def test_a_batch_is_passed_on_as_it_came():
    payload = encode((Atom("batch"), b"b", 2, b"x"))
    assert encode_message(decode_message(payload)) is payload


def documented():
    rows = {}
    for line in (ROOT / "docs/protocol.md").read_text().splitlines():
        if found := re.match(r"\| `\{(\w+), (.*)\}` \| (.*) \| (.*) \| (yes|no) \|", line):
            tag, rest, senders, receivers, credit = found.groups()
            # A comma inside brackets separates no element of the message.
            arity = 2 + re.sub(r"\[.*\]", "", rest).count(",")
            rows[tag] = (arity, senders.split(", "), receivers.split(", "), credit == "yes")
    return rows


def test_the_table_is_the_one_in_the_documentation():
    ours = {tag: (r.arity, [*r.senders], [*r.receivers], r.credit) for tag, r in MESSAGES.items()}
    assert ours == documented()


def test_the_table_is_the_one_at_the_nodes_end(tmp_path):
    require_tool("erlc")
    source = ROOT / "mod_megaphone"
    subprocess.run(
        ["erlc", "-I", source / "include", "-o", tmp_path, source / "src/megaphone_protocol.erl"],
        check=True,
    )
    shown = subprocess.run(
        ["erl", "-noshell", "-pa", tmp_path, "-eval",
         "io:put_chars(base64:encode(term_to_binary(megaphone_protocol:messages()))), halt()."],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    rows = decode(base64.b64decode(shown))
    node = {tag: (arity, *rest) for tag, arity, *rest in rows}
    ours = {tag: (r.arity, [*r.senders], [*r.receivers], r.credit) for tag, r in MESSAGES.items()}
    assert node == ours


@pytest.mark.parametrize(
    ("term", "complaint"),
    [
        (Atom("hello"), "no message"),
        ([Atom("credit"), 5], "no message"),
        ((Atom("credit"), 0), "a credit message is not as the protocol says"),
        ((Atom("credit"), b"5"), "a credit message"),
        ((Atom("batch"), b"b", -1, b""), "a batch message"),
        ((Atom("log"), Atom("loud"), b"", b""), "a log message"),
        ((Atom("replies"), [(1, Atom("maybe"), b"")]), "an answer in a replies message"),
        ((Atom("credit"), True), "a credit message"),
        ((Atom("call"), True, b"n", 1, 5000), "a call message"),
        ((Atom("call"), 1, b"n", 1, 0), "a call message"),
        ((Atom("heartbeat"), 1, -1), "a heartbeat message"),
        ((Atom("replies"), [[1, Atom("ok"), b""]]), "an answer in a replies message"),
        ((Atom("replies"), [(False, Atom("ok"), b"")]), "an answer in a replies message"),
        ((Atom("signals"), [(0, Atom("info"), 0, b"")]), "an item of a signals message"),
        ((Atom("signals"), [(1, Atom("info"), -1, b"")]), "an item of a signals message"),
        ((Atom("signals"), [(1, b"info", 0, b"")]), "an item of a signals message"),
        ((Atom("signals"), [(True, Atom("info"), 0, b"")]), "an item of a signals message"),
        ((Atom("signals"), [(1, Atom("info"), 0)]), "an item of a signals message"),
        ((Atom("signals"), [[1, Atom("info"), 0, b""]]), "an item of a signals message"),
        ((Atom("whisper"), 1), "unknown tag 'whisper'"),
        ((), "no message"),
        ({}, "no message"),
    ],
)
def test_what_is_no_message_is_refused_without_showing_it(term, complaint):
    with pytest.raises(MessageError, match=complaint):
        decode_message(encode(term))


def test_what_is_no_term_is_refused():
    with pytest.raises(EtfError):
        decode_message(b"\x83garbage")


def test_a_complaint_never_shows_the_content():
    with pytest.raises(MessageError) as caught:
        decode_message(encode((Atom("log"), b"secret", b"secret", b"secret")))
    assert "secret" not in str(caught.value)
