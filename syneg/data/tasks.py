"""Define "relevant" for a collection, and the attributes to draw for its negatives.

    task_for(config)      (its dataset is beir/scifact)
      → Task("A passage is relevant when its findings support or refute the claim; …", domains=("oncology", …), …)

The definition is part of every prompt, because it decides what a negative is: a passage that refutes a claim is
relevant to it, and so is a counter-argument to an argument. The attribute lists for SciFact follow the paper (section
3.2). The other lists, and the kinds of near-miss, are ours. `collection.task` and `generate.domains`, `.difficulties`,
`.lengths` and `.kinds` replace them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from syneg.core.config import Config
from syneg.core.errors import ConfigError, misspelled

_GENERAL = ("the field of the query", "a neighbouring field")
KINDS = (
    "another aspect of the same subject",
    "another thing of the same kind",
    "the same thing under another condition, population or version",
    "what comes before or after it",
    "the means or method by which it is done or measured",
)


@dataclass(frozen=True)
class Task:
    """The LM gets `definition`, and for each negative one value drawn from each of the other fields."""

    definition: str
    domains: tuple[str, ...] = _GENERAL
    difficulties: tuple[str, ...] = ("written for the same readers as the positive",)
    lengths: tuple[str, ...] = ("about as long as the positive",)
    kinds: tuple[str, ...] = KINDS


TASKS: dict[str, Task] = {
    "question answering": Task("A passage is relevant when it answers the question, in whole or in part."),
    "claim verification": Task(
        "A passage is relevant when its findings support or refute the claim; a refuting passage is relevant too.",
        domains=(
            "cell and molecular biology", "genetics and genomics", "immunology", "oncology", "cardiovascular medicine",
            "neuroscience", "infectious disease and microbiology", "endocrinology and metabolism",
            "epidemiology and public health",
        ),
        difficulties=("written for biomedical researchers", "written for medical students"),
    ),
    "argument retrieval": Task(
        "A passage is relevant when it is an argument against the one given, on the same issue."
    ),
    "duplicate questions": Task("A passage is relevant when it asks the same thing as the question, in other words."),
    "documentation search": Task(
        "The query says in one line what a piece of a programming library does. A passage is relevant when it is the "
        "documentation of that very function, class or module.",
        domains=("the Python standard library",),
        difficulties=("written for experienced programmers", "written for beginners"),
    ),
}  # fmt: skip

_TASK_OF = (
    ("python-docs", "documentation search"),
    ("scifact", "claim verification"),
    ("fever", "claim verification"),
    ("arguana", "argument retrieval"),
    ("touche", "argument retrieval"),
    ("quora", "duplicate questions"),
)


def _named(wanted: str) -> Task:
    """The known task of this name, in any case and with any sign between its words; else a task in the user's words.

    >>> _named("Claim_Verification") == TASKS["claim verification"], _named("It names the fault.").definition
    (True, 'It names the fault.')
    """
    name = " ".join(re.findall(r"[^\W_]+", wanted)).lower()
    if name in TASKS:
        return TASKS[name]
    if near := misspelled(name, TASKS):
        todo = f"did you mean {near!r}? Your own definition of relevance is best a sentence"
        raise ConfigError(f"unknown task {wanted!r}", todo=f"{todo} (collection.task)")
    return Task(wanted)


def task_for(config: Config) -> Task:
    """The task of a run: `collection.task` (a known name or a definition), else a task by the name of the data set.

    Raises ConfigError for a name that is probably meant for a known one.
    """
    wanted = config.collection.task
    if wanted is None:
        path = Path(config.collection.dataset)
        name = (path.name if path.is_absolute() else str(path)).lower()  # parent folders do not name the task
        wanted = next((task for part, task in _TASK_OF if part in name), "question answering")
    task = _named(wanted)
    given = {key: getattr(config.generate, key) for key in ("domains", "difficulties", "lengths", "kinds")}
    return replace(task, **{key: value for key, value in given.items() if value})
