from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syneg.config import GatesConfig
from syneg.gates import encoder_gates, text_gates
from syneg.records import HardNegative, normalise

POSITIVE = "Close the socket. All future operations on the socket object will fail."
GATES = GatesConfig()


def reason(
    text: str,
    finish_reason: str = "stop",
    query: str = "close a socket",
    positives: tuple[str, ...] = (POSITIVE,),
) -> str:
    return text_gates(HardNegative(text, "p", finish_reason=finish_reason), query, positives, GATES).reason


def test_each_text_gate_has_its_reason() -> None:
    good = "Shut down one or both halves of the connection as asked."
    assert reason(good) == ""
    assert reason(good, finish_reason="length") == "truncated"
    assert reason("") == "empty or too short"
    assert reason("Too short, this.") == "empty or too short"
    assert reason("How to CLOSE  a socket in three steps") == "repeats the query"
    assert reason(POSITIVE.upper()) == "equals a positive"
    assert reason("Well: all future operations on the socket object will fail.") == "copies a positive"


def test_encoder_gates_give_figure_and_threshold() -> None:
    same = encoder_gates(0.1, 0.8, 0.99, GATES)
    assert (same.reason, same.threshold) == ("means the same as a positive", 0.95)
    over = encoder_gates(0.77, 0.8, 0.5, GATES)
    assert (over.reason, over.figure) == ("over the margin of the positive", 0.77)
    assert encoder_gates(0.75, 0.8, 0.5, GATES).accepted
    assert encoder_gates(0.99, 0.8, 0.5, GatesConfig(margin=0)).accepted


@given(
    st.text(max_size=60),
    st.lists(st.text(max_size=60), max_size=4),
    st.text(max_size=20),
    st.sampled_from(["", " ", "!", "\n"]),
)
def test_no_accepted_negative_equals_a_positive(text: str, positives: list[str], query: str, tail: str) -> None:
    known = (*positives, text.swapcase() + tail)
    accepted = text_gates(HardNegative(text, "p"), query, known, GATES).accepted
    assert not (accepted and normalise(text) in {normalise(positive) for positive in known})
