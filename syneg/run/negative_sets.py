"""The synthetic negatives of a run folder: one set for each program that an arm trains on, and the near-misses.

    NegativeSets(workspace, load_program).of("neighbour_rewrite") → NegativeSet(drafts=[Draft(…), …],
      facts=Generation(program="neighbour_rewrite", written=48, accepted=17, reasons={…}, …))

Each set is one JSONL file with every negative, accepted or not. `negatives.jsonl` is by the program of the run,
`negatives-NAME.jsonl` by the program of an arm, `near-misses.jsonl` for held-out queries (the boundary test). A set is
made once for the same inputs. The rows of `generate.given` take the place of written negatives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import dspy

from syneg.core.config import Config
from syneg.core.counts import counted, part_of
from syneg.core.errors import BackendError, DataError, DeferredError
from syneg.core.records import Draft, MinedNegative, Pair
from syneg.core.storage import JsonObject, read_rows, sha256_of, write_rows
from syneg.data.tasks import task_for
from syneg.negatives.assignment import Assignment
from syneg.negatives.calibration import TrustedJudge
from syneg.negatives.generation import generate, write
from syneg.negatives.given import given_negatives
from syneg.negatives.text_reading import TrustedReader
from syneg.verdict.records import Generation, generation_of

from .assigning import gating_of, planned_task
from .counts import summary
from .folder import version
from .judge import judge_of
from .keys import source_of, stage_key
from .near_misses import (
    SMALL_PROGRAM,
    STRONG_PROGRAM,
    held_out,
    near_miss_settings,
    other_program,
)
from .workspace import Workspace

NEGATIVES, NEAR_MISSES, NEAR_TO_COMPILE = "negatives", "near-misses", "near-misses-compile"
MORE_TO_COMPILE = f"{NEAR_TO_COMPILE}-more"
FOLDS = f"{NEGATIVES}-folds"  # how the names of the sets for cross-fitting begin


@dataclass(frozen=True)
class NegativeSet:
    """Every negative of a set, accepted or not, and the counts of the set."""

    drafts: list[Draft]
    facts: Generation

    @property
    def rows(self) -> list[JsonObject]:
        """The rows of its JSONL file."""
        return [draft.row() for draft in self.drafts]

    @property
    def accepted(self) -> dict[str, list[Draft]]:
        """query_id → accepted negatives."""
        by_query: dict[str, list[Draft]] = {}
        for draft in self.drafts:
            if draft.accepted:
                by_query.setdefault(draft.pair.query_id, []).append(draft)
        return by_query


class NegativeSets:
    """Makes the sets of a run, or reads those on disk."""

    def __init__(
        self,
        workspace: Workspace,
        program_of: Callable[[str, str], dspy.Module],
        candidates: Callable[[], Mapping[str, Sequence[MinedNegative]]],
    ) -> None:
        """`program_of(name, prefix)` loads a program and saves its prompts. `candidates()` returns, by train query id,
        the passages that a program may rewrite."""
        self._workspace, self._program_of, self._candidates = workspace, program_of, candidates
        self._made: dict[str, NegativeSet] = {}

    @property
    def default_program(self) -> str:
        """The program of the run. `auto` is replaced by the program that suits the measured strength of the LM."""
        config = self._workspace.config.generate
        if config.program != "auto" or config.given:
            return config.program
        return STRONG_PROGRAM if self._workspace.is_strong else SMALL_PROGRAM

    def of(self, program: str) -> NegativeSet:
        """The set by `program` for the train pairs; `auto` is the default program."""
        workspace = self._workspace
        stem = self.stem_of(program)
        name = self.default_program if stem == NEGATIVES else program
        return self._for(stem, name, workspace.pairs_to_write, self._candidates())

    def for_folds(
        self, program: str, pairs: Sequence[Pair], mined: Mapping[str, Sequence[MinedNegative]]
    ) -> NegativeSet:
        """The set by `program` for `pairs` of all splits. Each fold of cross-fitting trains on a part of it."""
        name = self.default_program if program == "auto" else program
        return self._for(fold_stem(name), name, pairs, mined)

    def _for(
        self, stem: str, name: str, pairs: Sequence[Pair], mined: Mapping[str, Sequence[MinedNegative]]
    ) -> NegativeSet:
        if stem not in self._made:
            config = self._workspace.config
            assignment = Assignment(pairs, mined, task_for(config), config, name)
            self._made[stem] = (
                self._given(stem, assignment, lambda by: name in ("auto", by))
                if config.generate.given
                else self.written(stem, assignment)
            )
        return self._made[stem]

    def stem_of(self, program: str) -> str:
        """The file name of the set by `program`, without .jsonl."""
        default = program in (self._workspace.config.generate.program, "auto")
        return NEGATIVES if default else f"{NEGATIVES}-{slug(program)}"

    def near_misses(self, trained_on: Sequence[str]) -> NegativeSet | None:
        """Make near-misses for held-out queries, by a program that is not in `trained_on`; None if none can be made.

        Every gate applies except the margin, which would reject exactly the near-misses that the encoder gets wrong.
        With `generate.given`, all near-misses in the file are used.
        """
        workspace, chosen = self._workspace, self._workspace.config.boundary.program
        if not workspace.boundary_queries:
            return None
        config = near_miss_settings(workspace.config)
        names = sorted({self.default_program if name == "auto" else name for name in trained_on})
        if config.generate.given:
            return self._given_near_misses(names, chosen, config)
        if chosen == "auto":
            chosen = other_program(names)
            if not chosen:
                return self._none("every program is trained on; name another as boundary.program")
        pairs = held_out(workspace.collection, workspace.config.seed)[: workspace.boundary_queries]
        mined = workspace.mine_for(pairs).negatives
        try:
            near = self.written(NEAR_MISSES, Assignment(pairs, mined, task_for(config), config, chosen))
        except BackendError as error:
            return self._none(str(error))
        return near if near.accepted else self._none(f"the gates accepted nothing by {chosen}")

    def _given_near_misses(self, names: Sequence[str], chosen: str, config: Config) -> NegativeSet | None:
        workspace = self._workspace
        if "auto" in names:
            return self._none("the file has to name programs, and --program the one to train on")
        by_others = chosen == "auto"
        label = f"other than {', '.join(names)}" if by_others else chosen
        assignment = Assignment(held_out(workspace.collection, config.seed), {}, task_for(config), config, label)
        near = self._given(NEAR_MISSES, assignment, lambda by: by not in names if by_others else by == chosen)
        return near if near.accepted else self._none("no usable row by another program for held-out queries")

    def _none(self, reason: str) -> NegativeSet | None:
        self._workspace.manifest.note(no_boundary=reason)
        self._workspace.progress.say(f"  no boundary test: {reason}")
        return None

    def _given(self, stem: str, assignment: Assignment, wanted: Callable[[str], bool]) -> NegativeSet:
        """The set of the rows of `generate.given` whose program is `wanted`."""
        workspace, config = self._workspace, assignment.config
        path = Path(config.generate.given or "")
        gating = gating_of(workspace, assignment, judge_of(workspace) if config.judge.use == "on" else None)
        sha = sha256_of(path) if path.is_file() else ""

        def work() -> None:
            with workspace.progress.stage("given", "negatives") as line:
                most = config.collection.max_bad_rows
                queries = workspace.collection.queries
                drafts, notes = given_negatives(path, assignment.pairs, gating, wanted, most, queries)
                if not drafts and stem != NEAR_MISSES:
                    raise DataError(
                        "no row is for a query that is trained on", where=str(path),
                        todo="check query_id, and --program, which takes the rows of one program only",
                    )  # fmt: skip
                covered = counted(len({d.pair.query_id for d in drafts}), "query")
                line.note = f"{len(drafts)} for {covered}, {stem}"
            by = ", ".join(sorted({draft.negative.program for draft in drafts}))
            named = replace(assignment, name=path.name if stem == NEGATIVES else f"{by} in {path.name}")
            drafts = gating.rest(drafts, workspace.progress)
            facts = summary(named, drafts, workspace.roles.ledger, "given")
            self._keep(stem, drafts, replace(facts, judged=gating.judge is not None))
            for note in notes if stem != NEAR_MISSES else ():
                workspace.progress.say(f"  {note}")

        return self._made_once(stem, assignment, work, sha, gating.judge and gating.judge.lm.identity)

    def written(self, stem: str, assignment: Assignment) -> NegativeSet:
        """The set that the program named in `assignment` writes, in the file `stem`. Loads the program."""
        workspace, name = self._workspace, assignment.name
        program = self._program_of(name, "" if stem == NEGATIVES else f"{stem}.")
        task = planned_task(workspace, assignment.config)
        assignment = replace(assignment, program=program, task=task)
        writer = workspace.roles.writer_for(assignment.config)
        judge = self._judge_after_writing(assignment) if workspace.goes_by_batch else judge_of(workspace)
        gating = gating_of(workspace, assignment, judge)

        def work() -> None:
            with workspace.roles.used_for(use_of(name)):
                drafts = write(assignment, gating, writer, workspace.progress)
            facts = summary(assignment, drafts, workspace.roles.ledger, writer.identity)
            self._keep(stem, drafts, replace(facts, judged=gating.judge is not None))

        return self._made_once(stem, assignment, work, *self._inputs(assignment, gating.judge))

    def _judge_after_writing(self, assignment: Assignment) -> TrustedJudge | TrustedReader | None:
        """The judge of a run by batch file. Requests to the writer enter the file before requests to the judge.

        Raises DeferredError while answers of either are missing.
        """
        waiting: DeferredError | None = None
        try:
            with self._workspace.roles.used_for(use_of(assignment.name)):
                writer = self._workspace.roles.writer_for(assignment.config)
                generate(assignment, gating_of(self._workspace, assignment, None), writer)
        except DeferredError as error:
            waiting = error
        judge = judge_of(self._workspace)
        if waiting is not None:
            raise waiting
        return judge

    def is_written(self, stem: str, assignment: Assignment, judge: TrustedJudge | TrustedReader | None) -> bool:
        """Whether the set of `assignment` is on disk for the same inputs."""
        key = self._key(assignment, *self._inputs(assignment, judge))
        workspace = self._workspace
        return workspace.manifest.has(stem, key, workspace.folder.negatives(stem))

    def _inputs(self, assignment: Assignment, judge: TrustedJudge | TrustedReader | None) -> tuple[Any, ...]:
        """The inputs of a written set other than its settings and pairs; they enter its key."""
        assert assignment.program is not None
        writer = self._workspace.roles.writer_for(assignment.config).identity
        state, source = assignment.program.dump_state(), source_of(assignment.name)
        return assignment.task, state, source, writer, judge and judge.key

    def _made_once(self, stem: str, assignment: Assignment, work: Callable[[], None], *inputs: Any) -> NegativeSet:
        """Read the set `stem`; `work` makes it unless it is on disk for the same inputs."""
        workspace = self._workspace
        path = workspace.folder.negatives(stem)
        workspace.manifest.make(stem, self._key(assignment, *inputs), path, work)
        pairs = {pair.query_id: pair for pair in assignment.pairs}
        drafts = [Draft.of(row, pairs[row["query_id"]]) for row in read_rows(path)]
        return NegativeSet(drafts, generation_of(workspace.manifest.facts["negatives"][stem]))

    def _key(self, assignment: Assignment, *inputs: Any) -> str:
        workspace = self._workspace
        return stage_key(
            "generate", assignment.config, workspace.collection.fingerprint, workspace.encoder.fingerprint,
            workspace.encoder.prompts, [pair.query_id for pair in assignment.pairs], assignment.shown,
            version("syneg-dspy"), assignment.name, *inputs,
        )  # fmt: skip

    def _keep(self, stem: str, drafts: Sequence[Draft], facts: Generation) -> None:
        workspace = self._workspace
        write_rows(workspace.folder.negatives(stem), [draft.row() for draft in drafts])
        workspace.manifest.note(negatives={**workspace.manifest.facts.get("negatives", {}), stem: asdict(facts)})
        passed = part_of(facts.accepted, facts.written, "text", "passes", "pass")
        workspace.progress.say(f"  {passed} all gates, for {counted(facts.covered, 'query')}")


def fold_stem(program: str) -> str:
    """The file name of the set for the pairs of all folds, without .jsonl."""
    return f"{FOLDS}-{slug(program)}"


def use_of(program: str) -> str:
    """The use of an LM under which the ledger files the calls of `program`."""
    return f"write {program}"


def slug(name: str) -> str:
    """Return the name of a program as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)
