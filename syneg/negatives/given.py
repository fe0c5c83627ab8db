"""Negatives that somebody else wrote, through the same gates: `--given negatives.jsonl`.

    {"query_id": "1156", "text": "Fidelity of educator delivery …", "program": "multi_attribute", "domain":
    "endocrinology"}
      → Draft(pair, HardNegative("Fidelity …", program="multi_attribute", attributes={"domain": …}), GateVerdict(""))

One JSON object on a line. `text` may be called `hard_negative`; `program`, `lm`, `reasoning` and `parent_doc_id` are
taken where they stand, all other texts are attributes. Rows of queries that are not trained on are left out, and those
that a run rejected (`"accepted": false`): negatives.jsonl of other runs, or shards, can be given as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from syneg.core.config import Config
from syneg.core.errors import DataError, collected
from syneg.core.records import HardNegative, Pair
from syneg.core.text import plain_text, word_count
from syneg.data.corpus_profile import CorpusProfile

from .gates import GateContext, text_gates
from .generation import Draft
from .writing import Sources

_OWN = ("query_id", "text", "hard_negative", "program", "lm", "reasoning", "parent_doc_id")


def given_negatives(
    path: Path, sources: Sources, config: Config, wanted: Callable[[str], bool]
) -> tuple[list[Draft], list[str]]:
    """The drafts of programs whose name is `wanted`, in the order of the pairs, held against the gates on text; and
    what is wrong with rows that were skipped.

    Raises DataError when the file cannot be read, or when more than `collection.max_bad_rows` of it is bad.
    """
    if not path.is_file():
        raise DataError("no such file of negatives", where=str(path), todo="check --given")
    pairs = {pair.query_id: pair for pair in sources.pairs}
    found: dict[str, list[HardNegative]] = {}
    problems: list[str] = []
    lines = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                lines += 1
                try:
                    row = json.loads(line)
                    if row.get("accepted") is False:  # of a run's negatives.jsonl
                        continue
                    query_id, negative = _negative(row)
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                    problems.append(f"{path}:{number}: {error}")
                    continue
                if query_id in pairs and wanted(negative.program):
                    found.setdefault(query_id, []).append(negative)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the negatives: {error}", where=str(path)) from error
    if len(problems) > config.collection.max_bad_rows * max(1, lines):
        raise DataError(collected(f"{len(problems)} of {lines} rows cannot be used", problems), where=str(path))
    profile = CorpusProfile.of(sources.collection.passages.values())
    drafts = [
        draft
        for query_id, pair in pairs.items()
        for draft in _gated(pair, found.get(query_id, ()), sources, profile, config)
    ]
    return drafts, problems


def _negative(row: Mapping[str, Any]) -> tuple[str, HardNegative]:
    text = row.get("text") or row.get("hard_negative")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no text (as `text` or `hard_negative`)")
    if not isinstance(row.get("query_id"), (str, int)):
        raise ValueError("no query_id")
    own = row["attributes"] if isinstance(row.get("attributes"), dict) else row
    return str(row["query_id"]), HardNegative(
        text=" ".join(plain_text(text).split()), program=str(row.get("program") or "given"), reasoning=str(row.get("reasoning") or ""),
        attributes={k: v for k, v in own.items() if k not in _OWN and isinstance(v, str)},
        parent_doc_id=str(row["parent_doc_id"]) if row.get("parent_doc_id") else None, lm=str(row.get("lm") or "given"), finish_reason="stop", usd=0.0,
    )  # fmt: skip


def _gated(pair: Pair, negatives: Any, sources: Sources, profile: CorpusProfile, config: Config) -> list[Draft]:
    passages = sources.collection.passages
    positives = sources.collection.relevant_texts(pair.query_id)
    words = min(word_count(pair.positive), config.generate.passage_words)
    drafts: list[Draft] = []
    for negative in negatives:
        siblings = tuple(draft.negative.text for draft in drafts if draft.verdict.accepted)
        parent = passages.get(negative.parent_doc_id or "")
        context = GateContext(pair.query, positives, siblings, parent, words, profile)
        drafts.append(Draft(pair, negative, text_gates(negative, context, config.gates)))
    return drafts
