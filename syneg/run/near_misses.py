"""Who writes near-misses for held-out queries, and for which of them: in the boundary test, and to compile a writer.

    other_program(["multi_attribute"])                    → "requirement_break"
    compiling_origin(config, "multi_attribute")           → ("requirement_break", "")

Near-misses are of another origin than the texts that are trained on: another program, or another LM
(`boundary.program`, `boundary.model`). Otherwise an encoder could learn how the training texts are written.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from syneg.core.config import Config
from syneg.core.records import Pair
from syneg.data.collection import Collection
from syneg.llm.role_settings import boundary_settings
from syneg.programs import PROGRAMS

# The defaults were chosen from the tables in docs/lab_notes.md. `_OTHER` names, for each default, the program that
# writes its near-misses.
STRONG_PROGRAM, SMALL_PROGRAM = "multi_attribute", "neighbour_rewrite"
_OTHER = {"multi_attribute": "requirement_break", "neighbour_rewrite": "neighbour_topic"}


def near_miss_settings(config: Config) -> Config:
    """The settings for near-misses: one for each query, by the LM of the boundary test.

    There is no margin gate, since it would reject the hardest near-misses.
    """
    gates = config.gates.model_copy(update={"margin": 0.0})
    generate = config.generate.model_copy(update={"per_pair": 1})
    return config.model_copy(update={"gates": gates, "generate": generate, "lm": boundary_settings(config)})


def other_program(names: Sequence[str]) -> str:
    """The program that writes near-misses when arms train on `names`; "" if they train on all programs."""
    likely = (_OTHER.get(names[0], ""), SMALL_PROGRAM, STRONG_PROGRAM, "neighbour_topic", *PROGRAMS)
    return next((name for name in likely if name and name not in names), "")


def compiling_origin(config: Config, name: str) -> tuple[str, str]:
    """The program that writes near-misses to compile the program `name`; or "" and why none are written."""
    if config.boundary.queries == 0:
        return "", "boundary.queries is 0"
    if config.boundary.queries == "auto" and boundary_settings(config).model.startswith("local/"):
        return "", "an embedded LM would write them for minutes; boundary.queries=60 asks for some"
    chosen = other_program([name]) if config.boundary.program == "auto" else config.boundary.program
    if chosen == name and boundary_settings(config).model == config.lm.model:
        return "", f"boundary.program is {name}, which is compiled, and boundary.model names no other LM"
    return chosen, ""


def held_out(collection: Collection, seed: int) -> list[Pair]:
    """The pairs that no arm trains on: test, then confirm, then dev, each shuffled by seed."""
    return [pair for split in ("test", "confirm", "dev") for pair in shuffled(collection, split, seed)]


def shuffled(collection: Collection, split: str, seed: int) -> list[Pair]:
    """The pairs of a split, shuffled by seed."""
    pairs = collection.pairs(split)
    random.Random(f"{seed}:{split}").shuffle(pairs)
    return pairs
