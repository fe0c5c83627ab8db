"""The synthetic negatives of a run folder: one set for each program that an arm trains on, and the near-misses.

    NegativeSets(workspace, load_program).of("neighbour_rewrite") → NegativeSet(rows=[{"query_id": "q1", "text": "…", "accepted": True, …}, …],
                                                     facts={"written": 48, "accepted": 17, "reasons": {…}, …})

Each set is one JSONL in the run folder with every negative, accepted or not: `negatives.jsonl` by the program of the
run, `negatives-NAME.jsonl` by that of an arm, `near-misses.jsonl` for held-out queries (the boundary test). A set is
made once for its inputs. With `generate.given` the rows of the file are taken in place of writing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dspy

from syneg.core.config import Config
from syneg.core.errors import BackendError, DataError
from syneg.core.records import MinedNegative, Pair
from syneg.core.storage import read_rows, sha256_of, write_rows
from syneg.data.tasks import task_for
from syneg.negatives.generation import Draft
from syneg.negatives.given import given_negatives
from syneg.negatives.mining import mine
from syneg.negatives.writing import Sources, gated, plan_domains, summary, write_negatives

from .folder import version
from .keys import source_of, stage_key
from .workspace import Workspace

# The defaults were chosen from the tables in docs/lab_notes.md. `_OTHER` names, for each, the program of its near-misses.
STRONG_PROGRAM, SMALL_PROGRAM = "multi_attribute", "neighbour_rewrite"
_OTHER = {"multi_attribute": "requirement_break", "neighbour_rewrite": "neighbour_topic"}


@dataclass(frozen=True)
class NegativeSet:
    """Rows of a set, and counts about it."""

    rows: list[dict[str, Any]]
    facts: dict[str, Any]

    @property
    def accepted(self) -> dict[str, list[dict[str, Any]]]:
        """query_id → accepted rows."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            if row["accepted"]:
                found.setdefault(row["query_id"], []).append(row)
        return found


class NegativeSets:
    """Makes the sets, or finds them made."""

    def __init__(self, workspace: Workspace, program_of: Callable[[str, str], dspy.Module]) -> None:
        """`program_of(name, prefix)` loads a program and saves its prompts."""
        self._workspace, self._program_of = workspace, program_of
        self._made: dict[str, NegativeSet] = {}

    @property
    def default_program(self) -> str:
        """The program of the run; `auto` goes by the measured strength of the LM."""
        config = self._workspace.config.generate
        if config.program != "auto" or config.given:
            return config.program
        return STRONG_PROGRAM if self._workspace.strength.strong else SMALL_PROGRAM

    def of(self, program: str) -> NegativeSet:
        """The set by `program`, for the train pairs; `auto` is the default one."""
        workspace = self._workspace
        default = program in (workspace.config.generate.program, "auto")
        name = self.default_program if default else program
        stem = "negatives" if default else f"negatives-{_slug(name)}"
        if stem not in self._made:
            self._made[stem] = self._make(
                stem, name, workspace.pairs_to_write, workspace.mined, workspace.config, lambda by: name in ("auto", by)
            )
        return self._made[stem]

    def dev_near_misses(self, trained_on: str, count: int) -> dict[str, list[str]]:
        """Near-misses for `count` dev queries, by a program other than `trained_on`, for the objective of a
        compilation."""
        pairs = self._workspace.collection.pairs("dev")
        random.Random(f"{self._workspace.config.seed}:near").shuffle(pairs)
        found = self._near_misses([trained_on], pairs, "near-misses-dev", count)
        return {q: [row["text"] for row in rows] for q, rows in found.accepted.items()} if found else {}

    def near_misses(self, trained_on: Sequence[str]) -> NegativeSet | None:
        """Near-misses for held-out queries by a program other than `trained_on`; None where none can be made.

        Every gate applies except the margin, which would reject exactly the near-misses that the encoder gets wrong.
        With `generate.given`, all near-misses in the file are used.
        """
        return self._near_misses(trained_on, self.held_out(), "near-misses", self._workspace.boundary_queries)

    def _near_misses(
        self, trained_on: Sequence[str], pairs: Sequence[Pair], stem: str, count: int
    ) -> NegativeSet | None:
        workspace, chosen = self._workspace, self._workspace.config.boundary.program
        if not count:
            return None
        gates = workspace.config.gates.model_copy(update={"margin": 0.0})
        generate = workspace.config.generate.model_copy(update={"per_pair": 1})
        config = workspace.config.model_copy(update={"gates": gates, "generate": generate})
        names = sorted({self.default_program if name == "auto" else name for name in trained_on})
        if config.generate.given:
            return self._given_near_misses(names, chosen, config, pairs, stem)
        if chosen == "auto":
            likely = (_OTHER.get(names[0], ""), SMALL_PROGRAM, STRONG_PROGRAM, "neighbour_topic")
            chosen = next(name for name in likely if name and name not in names)
        pairs = pairs[:count]
        mined = mine(workspace.collection, pairs, workspace.encoder, config.mine).negatives
        try:
            found = self._make(stem, chosen, pairs, mined, config, lambda by: True)
        except BackendError as error:
            return self._none(str(error))
        return found if found.accepted else self._none(f"the gates accepted nothing by {chosen}")

    def _given_near_misses(
        self, names: Sequence[str], chosen: str, config: Config, pairs: Sequence[Pair], stem: str
    ) -> NegativeSet | None:
        if "auto" in names:
            return self._none("the file has to name programs, and --program the one to train on")
        by_others = chosen == "auto"
        label = f"other than {', '.join(names)}" if by_others else chosen
        found = self._make(stem, label, pairs, {}, config, lambda by: by not in names if by_others else by == chosen)
        return found if found.accepted else self._none("no usable row by another program for held-out queries")

    def _none(self, reason: str) -> NegativeSet | None:
        self._workspace.manifest.note(no_boundary=reason)
        self._workspace.progress.say(f"  no boundary test: {reason}")
        return None

    def held_out(self) -> list[Pair]:
        """Pairs of queries that no arm trains on: test, then confirm, then dev, each shuffled by seed."""
        found = []
        for split in ("test", "confirm", "dev"):
            pairs = self._workspace.collection.pairs(split)
            random.Random(f"{self._workspace.config.seed}:{split}").shuffle(pairs)
            found += pairs
        return found

    def _make(
        self, stem: str, program: str, pairs: Sequence[Pair], mined: Mapping[str, Sequence[MinedNegative]], config: Config,
        wanted: Callable[[str], bool],
    ) -> NegativeSet:  # fmt: skip
        workspace = self._workspace
        path = workspace.folder.negatives(stem)
        sources = Sources(pairs, workspace.collection, workspace.encoder, mined, task_for(config), None, program)
        basis = [workspace.collection.fingerprint, workspace.encoder.fingerprint, workspace.encoder.prompts,
                 [pair.query_id for pair in pairs], version("syneg-dspy")]  # fmt: skip
        if config.generate.given:
            self._take(stem, path, sources, config, wanted, basis)
        else:
            self._write(stem, path, sources, config, basis)
        return NegativeSet(list(read_rows(path)), workspace.manifest.facts["negatives"][stem])

    def _take(
        self, stem: str, path: Path, sources: Sources, config: Config, wanted: Callable[[str], bool], basis: list[Any]
    ) -> None:
        workspace, given = self._workspace, Path(config.generate.given or "")
        judge = workspace.judge() if config.judge.use == "on" else None
        there = sha256_of(given) if given.is_file() else ""

        def work() -> None:
            with workspace.progress.stage("given", "negatives") as line:
                drafts, problems = given_negatives(given, sources, config, wanted)
                if not drafts and not stem.startswith("near-misses"):
                    raise DataError(
                        "no row is for a query that is trained on", where=str(given),
                        todo="check query_id, and --program, which takes the rows of one program only",
                    )  # fmt: skip
                line.note = f"{len(drafts)} for {len({d.pair.query_id for d in drafts})} queries, {stem}"
            by = ", ".join(sorted({draft.negative.program for draft in drafts}))
            named = replace(sources, name=given.name if stem == "negatives" else f"{by} in {given.name}")
            self._keep(
                stem, path, named, config, self._gated(drafts, sources, config, judge), "given", judge is not None
            )
            if problems:
                workspace.progress.say(f"  {len(problems)} rows skipped, such as: {problems[0]}")

        key = stage_key("generate", config, *basis, there, sources.name, judge and judge[0].identity)
        workspace.manifest.make(stem, key, path, work)

    def _write(self, stem: str, path: Path, sources: Sources, config: Config, basis: list[Any]) -> None:
        workspace = self._workspace
        program = self._program_of(sources.name, "" if stem == "negatives" else f"{stem}.")
        sources = replace(sources, program=program)
        if config.generate.plan and not config.generate.domains:
            with workspace.progress.stage("plan") as line:
                sources = replace(sources, task=plan_domains(sources, workspace.roles.writer, config.seed))
                line.note = ", ".join(sources.task.domains)
        judge = workspace.judge()
        writer = workspace.roles.writer
        key = stage_key("generate", config, *basis, sources.task, sources.name, program.dump_state(), source_of(sources.name),
                        writer.identity, judge and (judge[0].identity, judge[1].confusion))  # fmt: skip

        def work() -> None:
            drafts = write_negatives(sources, config, writer, workspace.progress)
            drafts = self._gated(drafts, sources, config, judge)
            self._keep(stem, path, sources, config, drafts, writer.identity, judge is not None)

        workspace.manifest.make(stem, key, path, work)

    def _gated(self, drafts: Sequence[Draft], sources: Sources, config: Config, judge: Any) -> list[Draft]:
        return gated(drafts, sources, config.gates, judge, self._workspace.progress)

    def _keep(
        self, stem: str, path: Path, sources: Sources, config: Config, drafts: Sequence[Draft], lm: str, judged: bool
    ) -> None:
        workspace = self._workspace
        write_rows(path, [draft.row() for draft in drafts])
        found = {**summary(sources, config, drafts, lm, workspace.roles.ledger), "judged": judged}
        workspace.manifest.note(negatives={**workspace.manifest.facts.get("negatives", {}), stem: found})
        workspace.progress.say(
            f"  {found['accepted']} of {found['written']} pass all gates, for {found['covered']} queries"
        )


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)
