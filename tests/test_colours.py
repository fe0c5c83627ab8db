"""Colours are for terminals only."""

import os
import subprocess
import sys

import click
import pytest

from syneg.cli.colours import painted

_TEXT = (
    "arm      seeds  nDCG@10\nbase         1    .6540\nhybrid*      1    .7008\n```diff\n-old\n+new\n```\nerror: no key"
)


def test_painted_marks_headings_the_best_arm_errors_and_diffs_and_keeps_the_words():
    lines = painted(_TEXT).split("\n")
    marked = [line != plain for line, plain in zip(lines, _TEXT.split("\n"), strict=True)]
    assert marked == [True, False, True, False, True, True, False, True]
    assert "\x1b[32m" in lines[2]
    assert "\x1b[31m" in lines[4]
    assert click.unstyle(painted(_TEXT)) == _TEXT


def test_a_starred_note_and_a_sentence_on_arms_stay_plain():
    text = "* best on dev\narms differ by chance\nmodel: runs/best"
    assert painted(text) == text


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colours_unless_no_color_is_set(no_colour: str, coloured: bool):
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    code = f"from syneg.cli.colours import show; show({_TEXT!r})"
    environment = {**os.environ, "NO_COLOR": no_colour}
    subprocess.run([sys.executable, "-P", "-c", code], stdout=child, env=environment, check=True)
    printed = os.read(parent, 4096)
    for end in (parent, child):
        os.close(end)
    assert b"hybrid*" in printed
    assert (b"\x1b[" in printed) is coloured


def test_a_pipe_gets_plain_text():
    code = f"from syneg.cli.colours import show; show({_TEXT!r})"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == _TEXT + "\n"
