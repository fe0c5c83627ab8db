"""What the same text, a word and a run of words are, in every script."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syneg.core.near import near_key
from syneg.core.text import (
    contains,
    copied_share,
    cut,
    grams,
    length_of,
    normalise,
    terms,
    word_count,
    words,
)
from syneg.optimizers.guards import copies_corpus
from syneg.programs.judge import quoted

CHINESE = "文件关闭之后再调用此方法会引发错误，因此请先检查文件是否已经打开，然后再读取其中的内容。"
THAI = "หลังจากปิดไฟล์แล้วการเรียกใช้เมธอดนี้จะทำให้เกิดข้อผิดพลาด"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is C++?", "What is C#?"), ("C", "C#"), ("x < 0", "x > 0"), ("x<0", "x>0"), ("a != b", "a == b"), ("-5", "5"),
        ("दिन", "दीन"), ("กิน", "กัน"), ("கல்", "கால்"), ("???", "!!!"), ("🔥", "💧"), ("👩‍💻", "👨‍💻"), ("10²", "102"),
        ("50 %", "50 €"), ("か", "が"), ("résumé", "resume"), (".NET", "NET"), ("a_b", "a b"),
    ],
)  # fmt: skip
def test_texts_that_differ_in_meaning_are_not_the_same(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Größe", unicodedata.normalize("NFD", "GRÖSSE")), ("ＡＢＣ　１", "abc 1"), ("close  the\n file", "Close the file"),
        ("Close the file.", "close the file"), ("Room 5!?", "room 5"), ("关闭文件。", "关闭文件"),
        ("ﬁle", "file"), ("ｶﾞ", "ガ"), ("Datei\u00ad\u00adsystem", "DATEISYSTEM"), ("\ufeffx", "x"), ("각", "각"),
    ],
)  # fmt: skip
def test_spellings_of_one_text_are_the_same(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-1", "1"), ("it is -1", "it is 1"), ("(\u22121)", "(1)"), (".5", "5"), ("1.5", "15"), ("5 %", "5"), ("5 ‰", "5 %"), ("1/2", "1 2"),
        ("3:1", "3 1"), ("1-2", "1 2"), (".NET", "net"), ("C", "C++"), ("C", "C#"), ("not x", "x"), ("a<b", "a>b"), ("10²", "102"),
    ],
)  # fmt: skip
def test_near_copies_do_not_differ_by_a_sign_or_a_digit(one: str, other: str) -> None:
    assert near_key(one) != near_key(other)
    assert near_key(f"the value is {one} here") != near_key(f"the value is {other} here")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-1", "\u22121"), ("1\u20132", "1-2"), ("the \u201cfile\u201d", 'The "file"'), ("well-known, really", "well known really"),
        ("*C++*: `close`!", "C++ close"), ("5%", "5 %"), ("Covid\u201119", "covid-19"), ("Yes: 3.", "yes 3"), ("a/b", "a b"), ("end...", "end"),
    ],
)  # fmt: skip
def test_near_copies_differ_by_case_spacing_and_marks(one: str, other: str) -> None:
    assert near_key(one) == near_key(other)


@given(st.text(max_size=40))
def test_identity_is_stable_and_near_copies_are_coarser(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert near_key(f"  {text.upper()}  ") == near_key(text.upper())
    assert cut(text, 10_000) == text
    assert word_count(text) >= 0
    assert not copied_share(text, "") > 0


def test_words_of_scripts_without_spaces_are_counted_and_cut() -> None:
    assert 15 <= word_count(CHINESE) <= 25
    assert 8 <= word_count(THAI) <= 20
    for text in (CHINESE, THAI):
        short = cut(text, 5)
        assert 4 <= word_count(short) <= 5
        assert text.startswith(short.removesuffix(" …"))
        assert length_of(text).endswith(" characters")
    assert cut("one two three", 2) == "one two …"
    assert cut("one  two", 2) == "one  two"
    assert word_count("Das Dateisystem, das größte!") == 4


def test_copies_are_seen_in_every_script() -> None:
    changed = CHINESE.replace("错误", "异常")
    assert copied_share(changed, CHINESE) > 0.6
    assert copied_share(THAI[:-6], THAI) > 0.8
    assert copied_share("先取得锁，然后启动线程，最后等待它结束。", CHINESE) == 0
    assert contains("请问怎样关闭文件呢", "关闭文件")
    assert not contains("请问怎样打开文件呢", "关闭文件")
    assert quoted("再调用此方法会引发错误", CHINESE)
    assert not quoted("先取得锁然后启动线程", CHINESE)
    copied = copies_corpus([f"例如：{CHINESE[:16]}"], [CHINESE], own=[])
    assert copied and copied in CHINESE
    assert not copies_corpus(["写一段看起来相关但不回答问题的文字。"], [CHINESE], own=[])
    assert grams("a b c", 4) == []


@pytest.mark.parametrize(
    ("query", "passage"),
    [
        ("关闭文件", CHINESE), ("ファイルを閉じる", "このメソッドはファイルを閉じるためのものです。"), ("ปิดไฟล์", THAI),
        ("हिन्दी में सॉकेट", "सॉकेट को बंद करें"), ("បិទឯកសារ", "សូមបិទឯកសារនេះ"), ("ပိတ်ပါ", "ဖိုင်ကိုပိတ်ပါ"), ("파일 닫기", "파일을 닫는다"),
        ("C++", "Templates of C++"), ("résumé", unicodedata.normalize("NFD", "Résumé")), ("ＡＢＣ", "abc"), ("🔥", "hot 🔥"),
        ("R", "a plot in R"), ("GRÖSSE", "die Größe"),
    ],
)  # fmt: skip
def test_a_query_shares_terms_with_its_passage(query: str, passage: str) -> None:
    assert set(terms(query)) & set(terms(passage))


def test_terms_tell_names_apart() -> None:
    assert not set(terms("C++")) & set(terms("C# and C"))
    assert words("x<0") != words("x>0")


def test_the_words_of_a_plain_text_do_not_depend_on_a_letter_elsewhere_in_it() -> None:
    # an accent, or a letter of another script, has the text split by another pattern
    draw = random.Random(0)
    pieces = [
        "a",
        "b7",
        "9",
        "3.5",
        "1,000",
        ".",
        ",",
        "c++",
        "c#",
        "d#e",
        "_",
        "-",
        "!=",
        "==",
        "<",
        "$",
        " ",
        "'",
        "#",
        "+",
    ]
    for _ in range(2000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randrange(1, 9)))
        assert [*words(text), "é"] == words(f"{text} é"), text
        assert [*words(text), "ἀ"] == words(f"{text} ἀ"), text
