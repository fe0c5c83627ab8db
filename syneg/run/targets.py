"""List the targets of `compile --target`, one row for each.

    TARGETS["writer"].compile(run)     makes compiled.json, program.json and program.md, unless they are on disk
    TARGETS["reader"].prefix           "reader-": its files are reader-compiled.json, reader-program.json, …

A target that is a DSPy program has a class in `syneg.optimizers` (protocol `Target`), and a plan in this package that
gives its inputs and confirms the winner (`syneg.run.compile.Plan`). Every target writes {prefix}compiled.json, an
`Outcome` (`syneg.run.compiled`), and {prefix}program.md. The command prints that page up to the list of candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

# `--help` imports this module, so modules that load dspy or torch are imported inside functions.
if TYPE_CHECKING:
    from .parts import Parts


@dataclass(frozen=True)
class TargetRow:
    """One target: its name in `compile.target`, the `prefix` of its files, and the function that compiles it.

    `lm` is the section of the LM that runs its program, or "" for none.
    """

    name: str
    prefix: str
    compile: Callable[[Parts], object]
    lm: str = "lm"


def _writer(run: Parts) -> None:
    run.load_program(run.negatives.default_program)


def _reader(run: Parts) -> None:
    """Compile the reader, then measure the one that is used: `read` grades with it, and arms only if it is trusted."""
    reader = run.readings.reader
    _ = reader.program
    _ = reader.measured


def _queries(run: Parts) -> None:
    from syneg.llm.capabilities import adapter_for
    from syneg.programs import load_query_program

    from .compile import compiled
    from .compile_queries import PREFIX, QueriesPlan
    from .compiled import save_program

    name = run.config.queries.program
    plan = QueriesPlan(run.workspace, name, load_query_program(name))
    best = compiled(run.workspace, plan)
    save_program(run.folder, PREFIX, best, name, adapter_for(run.config.lm), before=plan.program)


def _sampler(run: Parts) -> None:
    _ = run.sampler.settings


_ROWS = (
    TargetRow("writer", "", _writer),
    TargetRow("reader", "reader-", _reader, "reader"),
    TargetRow("queries", "queries-", _queries),
    TargetRow("sampler", "sampler-", _sampler, ""),
)
TARGETS = {row.name: row for row in _ROWS}
