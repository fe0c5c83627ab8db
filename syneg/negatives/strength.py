"""Test how well an LM writes negatives. Settings with the value `auto` depend on this test, never on a model's name.

    strength(writer) → Strength(lm="local/qwen2.5-coder-1.5b@cc32…", written=8, passed=4,
                                faults={"copies": 2, "answers": 2}).strong → False

The test: `multi_attribute` writes one negative for each of eight fixed queries, with the positive in the prompt. A
negative passes if it is long enough, copies little, and lacks the words that every answer needs. Small models fail
here, so a program must not show them the positive. The test takes eight calls for each LM; the cache keeps the result.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import dspy

from syneg.core.progress import Tick
from syneg.core.records import fingerprint
from syneg.core.storage import cache_home, read_json, write_json
from syneg.core.text import contains, copied_share, word_count
from syneg.core.threads import in_order
from syneg.data.tasks import KINDS, TASKS
from syneg.llm.calls import PROGRAM_ERRORS, CallPurpose, check_answered, purpose
from syneg.llm.lms import LanguageModel
from syneg.programs import MultiAttribute

from .gates import REFUSED_CALL

_STRONG_SHARE = 0.85  # of the negatives have to pass
_COPIED = 0.15  # share of 4-grams from the positive that is too much
_REFUSED = "refused"
_QA, _CLAIM, _SAME, _DOCS = (
    TASKS[name].definition
    for name in ("question answering", "claim verification", "duplicate questions", "documentation search")
)
# (task, domain, query, positive, words that every answer needs, as a regular expression)
_TEST = (
    (
        _QA, "baking", "why does sourdough bread taste sour",
        "In a sourdough starter, bacteria live beside the yeast and make lactic and acetic acid from the "
        "sugars of the flour; these acids give the loaf its tang.",
        r"acid|bacteri",
    ),
    (
        _QA, "bicycles", "how tight should a bicycle chain be",
        "Press the chain halfway between the sprockets: it should give about one centimetre up and down. "
        "Tighter, and it wears the bearings.",
        r"centimet|\bcm\b|inch|halfway|tight",
    ),
    (
        _CLAIM, "botany", "Shade makes ferns grow taller.",
        "Over two summers, ferns under shade cloth reached 41 cm on average and those in full sun 40 cm; the "
        "difference was not significant.",
        r"\btall|height",
    ),
    (
        _CLAIM, "shipbuilding", "Old wooden boats last longer in salt water than in fresh water.",
        "Of 212 hulls surveyed, planks kept in the sea showed rot after 31 years, those kept on lakes after "
        "19; salt seems to hold back the fungus.",
        r"\brot|decay|fung|last(s|ed)? longer|longer li",
    ),
    (
        _SAME, "laundry", "How do I get red wine out of a white shirt?",
        "What removes a red wine stain from white cotton?",
        r"wine.*(stain|out of|remov|shirt)|(stain|remov).*wine",
    ),
    (
        _SAME, "pets", "Can I keep a cat in a small flat?",
        "Is a tiny apartment enough room for a cat?",
        r"(flat|apartment|studio).*\bcat|\bcat.*(flat|apartment|studio)",
    ),
    (
        _DOCS, "text tools", "Return the number of lines of a file.",
        "Opens the file at `path` and counts newline characters. A last line without one counts too. Raises "
        "FileMissing when there is no file.",
        r"count|number of lines|how many lines",
    ),
    (
        _DOCS, "library software", "Sort the books of a shelf by height.",
        "Moves the books so that the tallest stands at the left. Books of the same height keep their order. "
        "The shelf must not be locked.",
        r"\bsort|tallest|height|\border",
    ),
)  # fmt: skip
TESTS = len(_TEST)


@dataclass(frozen=True)
class Strength:
    """Result of the test of one LM: of `written` negatives, `passed` passed; `faults` counts the reasons of the rest.

    A prompt that the endpoint refused is not counted at all.
    """

    lm: str
    written: int
    passed: int
    faults: dict[str, int]

    @property
    def strong(self) -> bool:
        """Whether 85 % passed: the LM may then see the positive while it writes, and be tried as a judge."""
        return self.written > 0 and self.passed >= _STRONG_SHARE * self.written


def strength(writer: LanguageModel, progress: Tick | None = None) -> Strength:
    """Test an LM, or return the result of its last test. Raises BackendError when the LM cannot be called."""
    path = _path_of(writer)
    kept = read_json(path)
    if kept is None:
        measured, keys = _measured(writer, progress)
        kept = {"strength": asdict(measured), "calls": writer.rows_of(keys)}
        write_json(path, kept)
    writer.adopt(kept["calls"])  # the run's ledger holds every call that it depends on, so it can be replayed elsewhere
    return Strength(**kept["strength"])


def _measured(writer: LanguageModel, progress: Tick | None) -> tuple[Strength, list[str]]:
    """Run the test; return its result, and the ledger keys of its calls."""
    program = MultiAttribute()
    places = range(len(_TEST))
    results = in_order(lambda n: _fault(program, writer, n), places, writer.engine.config.concurrency, progress)
    faults = Counter(fault for fault, _ in results if fault)
    refused = faults.pop(_REFUSED, 0)  # a content filter of the endpoint tells nothing about the model
    tests = len(_TEST) - refused
    measured = Strength(writer.identity, tests, tests - faults.total(), dict(faults))
    return measured, sorted(key for _, keys in results for key in keys)


def known_strength(writer: LanguageModel) -> Strength | None:
    """The result of the last test of an LM, or None if it was never tested."""
    kept = read_json(_path_of(writer))
    return None if kept is None else Strength(**kept["strength"])


def _path_of(writer: LanguageModel) -> Path:
    """The file that keeps the result for an LM, its settings and this version of the test."""
    state, adapter = MultiAttribute().dump_state(), type(writer.adapter).__name__
    key = fingerprint("with calls", writer.identity, writer.lm.kwargs, _TEST, state, adapter)
    return cache_home() / "strength" / f"{key}.json"


def _fault(program: dspy.Module, writer: LanguageModel, place: int) -> tuple[str, list[str]]:
    """Write the negative for item `place` of the test; return what is wrong with it, or "", and the calls' keys."""
    with purpose(f"strength-{place}") as current, dspy.context(lm=writer.lm, adapter=writer.adapter):
        fault = _fault_of(program, place, current)
    return fault, [call.key for call in current.calls]


def _fault_of(program: dspy.Module, place: int, current: CallPurpose) -> str:
    """What is wrong with the negative that the program writes for item `place`; "" if nothing is."""
    definition, domain, query, positive, answer = _TEST[place]
    wanted = {
        "domain": domain,
        "difficulty": "written for everyone",
        "length": "about as long as the positive",
        "kind": KINDS[place % 2],
    }
    try:
        negatives = program(query=query, positive=positive, task=definition, attributes=[wanted]).negatives
    except PROGRAM_ERRORS as error:
        check_answered(error, answered=bool(current.calls))
        return _REFUSED if any(call.finish_reason == REFUSED_CALL for call in current.calls) else "unreadable"
    if not negatives:
        return "unreadable"
    text = negatives[0].text
    if word_count(text) < min(6, word_count(positive) / 3):
        return "too short"
    if copied_share(text, positive) > _COPIED or contains(text, query):
        return "copies"
    return "answers" if re.search(answer, text, re.IGNORECASE) else ""
