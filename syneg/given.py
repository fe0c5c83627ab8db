"""Negatives that somebody else wrote, through the same gates: `--given negatives.jsonl`.

    {"query_id": "1156", "text": "Fidelity of educator delivery …", "program": "multi_attribute", "domain": "endocrinology"}
      → Draft(pair, HardNegative("Fidelity …", program="multi_attribute", attributes={"domain": …}), GateVerdict(""))

One JSON object on a line. `text` may be called `hard_negative`; `program`, `lm`, `reasoning` and `parent_doc_id` are taken
where they stand, all other texts are attributes. Rows of queries that are not trained on are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config import Config
from .corpus_profile import CorpusProfile
from .errors import DataError, collected
from .gates import Surroundings, text_gates
from .generation import Draft, compare
from .records import HardNegative, Pair
from .writing import Sources

_OWN = ("query_id", "text", "hard_negative", "program", "lm", "reasoning", "parent_doc_id")


def given_negatives(path: Path, sources: Sources, config: Config) -> tuple[list[Draft], list[str]]:
    """The drafts, in the order of the pairs, and what is wrong with rows that were skipped.

    `generate.program`, where it is not `auto`, takes the rows of that program only. Raises DataError when the file
    cannot be read, when more than `collection.max_bad_rows` of it is bad, or when nothing is left.
    """
    pairs = {pair.query_id: pair for pair in sources.pairs}
    found: dict[str, list[HardNegative]] = {}
    problems: list[str] = []
    lines = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                lines += 1
                try:
                    query_id, negative = _negative(json.loads(line))
                except (ValueError, LookupError, TypeError, AttributeError) as error:
                    problems.append(f"{path}:{number}: {error}")
                    continue
                if query_id in pairs and config.generate.program in ("auto", negative.program):
                    found.setdefault(query_id, []).append(negative)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the negatives: {error}", where=str(path)) from error
    if len(problems) > config.collection.max_bad_rows * max(1, lines):
        raise DataError(collected(f"{len(problems)} of {lines} rows cannot be used", problems), where=str(path))
    if not found:
        raise DataError(
            "no row is for a query that is trained on", where=str(path),
            todo="check query_id, and generate.program, which takes the rows of one program only",
        )  # fmt: skip
    profile = CorpusProfile.of(sources.collection.passages.values())
    drafts = [
        draft
        for query_id, pair in pairs.items()
        for draft in _gated(pair, found.get(query_id, ()), sources, profile, config)
    ]
    return compare(drafts, sources.collection, sources.encoder, config.gates, judged=False), problems


def _negative(row: Mapping[str, Any]) -> tuple[str, HardNegative]:
    text = row.get("text") or row.get("hard_negative")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no text (as `text` or `hard_negative`)")
    if not isinstance(row.get("query_id"), (str, int)):
        raise ValueError("no query_id")
    return str(row["query_id"]), HardNegative(
        text=" ".join(text.split()), program=str(row.get("program") or "given"), reasoning=str(row.get("reasoning") or ""),
        attributes={k: v for k, v in row.items() if k not in _OWN and isinstance(v, str)},
        parent_doc_id=row.get("parent_doc_id"), lm=str(row.get("lm") or "given"), finish_reason="stop", usd=0.0,
    )  # fmt: skip


def _gated(pair: Pair, negatives: Any, sources: Sources, profile: CorpusProfile, config: Config) -> list[Draft]:
    passages = sources.collection.passages
    positives = tuple(passages[doc_id] for doc_id in sorted(sources.collection.relevant(pair.query_id)))
    words = min(len(pair.positive.split()), config.generate.passage_words)
    drafts: list[Draft] = []
    for negative in negatives:
        siblings = tuple(draft.negative.text for draft in drafts if draft.verdict.accepted)
        parent = passages.get(negative.parent_doc_id or "")
        around = Surroundings(pair.query, positives, siblings, parent, words, profile)
        drafts.append(Draft(pair, negative, text_gates(negative, around, config.gates)))
    return drafts
