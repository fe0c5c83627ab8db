"""What is written into prompts does not depend on the order of a set, which Python's hash seed decides."""

import os
import subprocess
import sys

_FEEDBACK = """
import dspy
from syneg.data.collection import Collection
from syneg.negatives.reading import ToRead
from syneg.optimizers import ReaderTarget
from syneg.programs import GradeList

ids = [f"d{number}" for number in range(9)]
passages = {doc_id: f"passage of {doc_id}" for doc_id in ids}
qrels = {"q": {doc_id: 1.0 for doc_id in ids[:6]}}
collection = Collection("made up", passages, {"q": "a query"}, qrels, {s: ("q",) for s in ("train", "dev", "confirm", "test")})
asked = ToRead("q", "a query", tuple(ids), frozenset(ids[:6]), frozenset(ids[8:]))
target = ReaderTarget(GradeList(), [asked], [], collection, "task", None)
feedback = target.judge("q", dspy.Prediction(grades=[0] * 9, spans=[""] * 9, failed="")).feedback
"""


def _with_another_seed(code: str) -> str:
    """What the code gives as `feedback` in a process of its own; its imports take 10 s, so there is only one."""
    own = os.environ.get("PYTHONHASHSEED", "random")
    environment = {**os.environ, "PYTHONHASHSEED": "2" if own == "1" else "1"}
    code += "print(feedback, end='')"
    return subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, check=True
    ).stdout


def test_feedback_names_passages_in_the_order_of_the_list() -> None:
    here: dict[str, str] = {}
    exec(_FEEDBACK, here)
    text = here["feedback"]
    assert _with_another_seed(_FEEDBACK) == text
    assert text.index("passage of d0") < text.index("passage of d1") < text.index("passage of d2")
