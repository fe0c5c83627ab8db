from __future__ import annotations

import inspect
import os
import pathlib
import random
import socket
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syneg.core.config import GatesConfig
from syneg.core.records import GateVerdict, HardNegative
from syneg.core.text import normalise, word_count
from syneg.data.corpus_profile import CorpusProfile
from syneg.negatives.gates import ADVICE, ENCODER_GATES, TEXT_GATES, Cosines, GateContext, encoder_gates, text_gates

POSITIVE = "Close the socket. All future operations on the socket object will fail."
GATES = GatesConfig()
# every gate off that has a setting: what is left holds for any settings
OPEN = GatesConfig(
    min_words=0, script=0, language=0, length_low=0, length_high=0, query_words=0, positive_ngram=0, parent_ngram=0,
    sibling_ngram=0,
)  # fmt: skip
ENGLISH = sorted(
    {
        doc
        for module in (os, pathlib, socket, threading)
        for one in vars(module).values()
        if (doc := inspect.getdoc(one))
    }
)


def gate(text: str, config: GatesConfig = GATES, finish_reason: str = "stop", **around: object) -> GateVerdict:
    known: dict[str, object] = {"query": "close a socket", "positives": (POSITIVE,), **around}
    return text_gates(HardNegative(text, "p", finish_reason=finish_reason), GateContext(**known), config)  # type: ignore[arg-type]


def test_each_text_gate_has_its_reason_and_figure() -> None:
    good = "Shut down one or both halves of the connection as asked."
    assert gate(good).accepted
    assert gate(good, finish_reason="length").reason == "truncated"
    assert gate("").reason == "empty or too short"
    assert gate("Too short, this.").reason == "empty or too short"
    assert gate("How to CLOSE  a socket in three steps").reason == "repeats the query"
    assert gate("A lock is taken before the thread starts.", query="lock").accepted  # a word is not a repetition
    assert gate(POSITIVE.upper()).reason == "equals a positive"
    copied = gate("Well: all future operations on the socket object will fail.")
    assert (copied.reason, copied.threshold) == ("copies a positive", 0.3)
    assert copied.figure == copied.figures["positive_ngram"] > 0.5
    assert gate(good, words=100).reason == "far shorter than positive or corpus"
    assert gate(good, words=2).reason == "far longer than positive or corpus"
    assert gate(good, parent=good + " Again.").reason == "copies its parent"
    assert (
        gate(good, siblings=("Shut down one or both halves of the connection, please.",)).reason == "repeats a sibling"
    )
    off = GatesConfig(**dict.fromkeys(GatesConfig.model_fields, 0))
    assert gate("How to close a socket " + POSITIVE, off, words=1, siblings=(POSITIVE,), parent=POSITIVE).accepted


def test_a_short_text_is_a_passage_where_its_positive_is_as_short() -> None:
    """A corpus of titles or names, also in a script of which two characters are a word."""
    short = {"positives": ("Close the socket",), "words": 3}
    assert gate("Open the file", **short).accepted
    assert gate("Open", **{**short, "words": 4}).accepted
    assert gate("Open", **{**short, "words": 4}, config=GatesConfig(length_low=0.5)).reason.startswith("far shorter")
    assert gate("复制文件的步骤", query="关闭窗口", positives=("关闭窗口的方法",), words=4).accepted
    assert gate("", **short).reason == "empty or too short"
    assert gate("Open the file", words=5).reason == gate("Open the file").reason == "empty or too short"


def test_script_language_and_length_are_those_of_the_corpus() -> None:
    profile = CorpusProfile.of(ENGLISH)
    assert profile.scripts == {"LATIN"}
    near = "The name of the file is returned as it was given when the file was opened, in text or in bytes."
    assert gate(near, profile=profile).accepted
    german = "Der Name der Datei wird so zurückgegeben, wie er beim Öffnen angegeben wurde, als Text oder als Bytes."
    assert gate(german, profile=profile).reason == "not in the corpus's language"
    russian = "Имя файла возвращается в том виде, в котором оно было указано при открытии файла."
    assert gate(russian, profile=profile).reason == "not in the corpus's script"
    assert gate(f"{near} " * 60, profile=profile).reason == "far longer than positive or corpus"
    assert CorpusProfile.of(ENGLISH[:20]).language_share(german) is None  # too little text to know a language by
    chinese = CorpusProfile.of(["文件关闭之后再调用此方法会引发错误。"] * 5)
    assert chinese.strange_letters("文件名") == 0.0


def test_encoder_gates_give_figure_and_threshold() -> None:
    same = encoder_gates(Cosines(0.1, 0.8, 0.99), GATES)
    assert (same.reason, same.threshold) == ("means the same as a positive", 0.95)
    assert encoder_gates(Cosines(0.5, 0.8, 0.5, relevant=0.97), GATES).reason == "near a relevant passage of the corpus"
    assert encoder_gates(Cosines(0.5, 0.8, 0.5, sibling=0.96), GATES).reason == "means the same as a sibling"
    assert encoder_gates(Cosines(0.1, 0.8, 0.5), GATES).reason == "too far from the query"
    over = encoder_gates(Cosines(0.77, 0.8, 0.5), GATES)
    assert (over.reason, over.threshold) == ("over the margin of the positive", 0.95)
    assert over.figure == pytest.approx(0.77 / 0.8, abs=1e-4)
    assert encoder_gates(Cosines(0.75, 0.8, 0.5), GATES).accepted
    assert encoder_gates(Cosines(0.99, 0.8, 0.5), GATES, judged=True).accepted  # the judge decides
    assert encoder_gates(Cosines(0.99, 0.8, 0.5), GatesConfig(margin=0)).accepted


@given(
    st.text(max_size=60),
    st.lists(st.text(max_size=60), max_size=4),
    st.text(max_size=20),
    st.sampled_from(["", " ", "!", "\n"]),
)
def test_no_accepted_negative_equals_a_positive(text: str, positives: list[str], query: str, tail: str) -> None:
    known = (*positives, text.swapcase() + tail)
    for gates in (GATES, OPEN):
        accepted = text_gates(HardNegative(text, "p"), GateContext(query, known), gates).accepted
        assert not (accepted and normalise(text) in {normalise(positive) for positive in known})


@given(st.lists(st.floats(-1, 1), min_size=5, max_size=5), st.booleans())
def test_nothing_near_a_positive_is_accepted_judge_or_not(cosines: list[float], judged: bool) -> None:
    verdict = encoder_gates(Cosines(*cosines), GATES, judged=judged)
    assert not (verdict.accepted and max(cosines[2], cosines[3]) > GATES.positive_cosine)
    assert all(np.isfinite(figure) for figure in verdict.figures.values())


def test_the_margin_holds_beside_a_positive_below_zero() -> None:
    assert encoder_gates(Cosines(-0.1, -0.2, 0.3), GatesConfig(floor=0)).reason == "over the margin of the positive"
    assert encoder_gates(Cosines(-0.22, -0.2, 0.3), GatesConfig(floor=0)).accepted


def test_chinese_texts_pass_and_copies_of_them_do_not() -> None:
    positive = "关闭套接字。套接字对象以后的所有操作都会失败，远端也不会再收到任何数据。"
    around = {"query": "怎样关闭套接字", "positives": (positive,), "words": word_count(positive)}
    good = "按照参数的要求关闭连接的一半或者两半，之后仍然可以从另一端读取剩下的内容。"
    assert gate(good, **around).accepted
    copied = gate("注意：" + positive.replace("任何", "什么"), **around)
    assert copied.reason == "copies a positive"
    assert gate("很多人都想知道怎样关闭套接字，但是答案并不在这一段文字里面。", **around).reason == "repeats the query"
    assert gate("太短了。", **around).reason == "empty or too short"
    assert gate("？？？！！！", **around).reason == "empty or too short"
    assert gate(good * 5, **around).reason == "far longer than positive or corpus"
    assert gate(good, siblings=(good.replace("剩下", "其余"),), **around).reason == "repeats a sibling"


def test_names_that_differ_by_a_sign_are_not_the_same_text() -> None:
    positive = "Templates of C++ are compiled."
    assert gate("Templates of C# are compiled.", GatesConfig(positive_ngram=0), positives=(positive,)).accepted
    assert gate("templates of C++, are compiled!", positives=(positive,)).reason == "equals a positive"


def test_the_language_of_a_chinese_or_thai_corpus_is_known() -> None:
    characters = [chr(0x4E00 + 7 * i) for i in range(300)]
    draw = random.Random(0)
    texts = ["".join(draw.choices(characters, k=300)) + "。" for _ in range(120)]
    profile = CorpusProfile.of(texts)
    assert profile.trigrams
    assert (profile.language_share("".join(draw.choices(characters, k=60))) or 0) > GATES.language
    other = "".join(chr(0x8000 + 11 * i) for i in range(60))
    assert (profile.language_share(other) or 0) < GATES.language
    assert profile.strange_letters("ファイルを閉じる") > 0.5
    assert CorpusProfile.of(["ปิดไฟล์ก่อนออกจากโปรแกรม"]).strange_letters("ที่นี่") == 0


def test_every_gate_is_a_row_with_advice_and_a_setting() -> None:
    for row in (*TEXT_GATES, *ENCODER_GATES):
        assert row.advice and ADVICE[row.reason] == row.advice
        assert not row.setting or row.setting in GatesConfig.model_fields
        assert row.setting or row.limit is not None
    used = {row.setting for row in (*TEXT_GATES, *ENCODER_GATES)}
    assert used >= set(GatesConfig.model_fields)
