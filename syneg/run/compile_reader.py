"""Compile the reader. Its examples are passage lists of train queries; other labelled queries decide.

    plan = ReaderPlan(workspace, "grade_list", GradeList(), reader.lists)
    compiled(workspace, plan)               → the program that grades in this run
    plan.confirm(best, first)               → Confirmed(delta=.031, interval=(.012, .052), queries=300, …)

No encoder is trained on the grades here, so every labelled query outside the examples can confirm: first dev and
confirm, then the rest of train, never test. The candidate replaces the program only if the 95 % interval of the paired
difference in nDCG@10 (ranx) of their orders lies above 0. With `compile.test` a winner is then compared on the test
queries, which decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import dspy

from syneg.core.errors import ConfigError
from syneg.core.records import Pair
from syneg.llm.lms import LanguageModel
from syneg.llm.role_settings import reader_settings
from syneg.negatives.reader_agreement import by_grade, ndcg_of_lists
from syneg.negatives.reading import ToRead, read_by_lm
from syneg.optimizers import Candidate, ReaderTarget
from syneg.retrieval.metrics import MAIN_METRIC, mean
from syneg.verdict.confirmed import Confirmed

from .compile import CONFIRM
from .deciding import DecidedPlan, deciding
from .workspace import Workspace

PREFIX = "reader-"  # of file names in the run folder
_SHOWN = 4  # lists that demos are made from, in addition to the examples
Lists = Callable[[Sequence[Pair]], list[ToRead]]


class ReaderPlan(DecidedPlan):
    """Plan for the grading program `name`. `lists` maps pairs to the passage lists that the reader grades."""

    stage = "compile reader"
    prefix = PREFIX
    unit = "labelled queries"

    def __init__(self, workspace: Workspace, name: str, program: dspy.Module, lists: Lists) -> None:
        super().__init__(workspace, name, program)
        self._lists = lists

    @property
    def lm(self) -> LanguageModel:
        """The reader's LM."""
        return self._workspace.roles.reader_lm

    def check(self) -> None:
        """Raise ConfigError if no LM grades, and DataError if too few labelled queries are left to confirm on."""
        config = self._workspace.config
        if config.reader.given or config.reader.cross_encoder:
            key = "reader.given" if config.reader.given else "reader.cross_encoder"
            raise ConfigError(f"there is no program to compile: {key} reads", todo="leave it out, or --target reader")
        super().check()

    @property
    def _pairs(self) -> list[Pair]:
        return self._workspace.train_split[: self._workspace.config.compile.pairs]

    @property
    def _shown(self) -> list[Pair]:
        used = len(self._pairs)
        return self._workspace.train_split[used : used + _SHOWN]

    @cached_property
    def _deciding(self) -> list[Pair]:
        """The queries that confirm: dev, confirm, then train without the queries that a proposal has seen."""
        workspace = self._workspace
        wanted = deciding(workspace.config, reader_settings(workspace.config).model)
        rest = workspace.train_split[len(self._pairs) + len(self._shown) :]
        labelled = [*workspace.collection.pairs("dev"), *workspace.collection.pairs("confirm"), *rest]
        return labelled[: wanted or None]

    @property
    def examples(self) -> int:
        """Number of train queries that candidates are tried on."""
        return len(self._pairs)

    @property
    def deciding(self) -> int:
        """Number of queries that confirm."""
        return len(self._deciding)

    def target(self) -> ReaderTarget:
        """Return the program with its examples, scored by nDCG@10 of its order."""
        workspace = self._workspace
        return ReaderTarget(
            self.program, self._lists(self._pairs), self._lists(self._shown), workspace.collection, self._definition,
            self.lm,
        )  # fmt: skip

    def confirm(self, best: Candidate, first: Candidate) -> Confirmed | None:
        """Compare both programs by nDCG@10 of their orders on the confirming queries; an unreadable answer gives 0.

        With `compile.test`, a candidate that won is compared on the test queries, too.
        """
        confirmed, own = self._compare(self._deciding, best, first, CONFIRM)
        self._workspace.progress.say(
            f"  confirm: {MAIN_METRIC} {confirmed.mean[0]:.4f} with the compiled reader, {confirmed.mean[1]:.4f} with "
            f"the first, {own:.4f} in the encoder's order "
            f"({confirmed.figures}). {confirmed.verdict}"
        )
        if self._workspace.config.compile.test and confirmed.replaces:
            tested, _ = self._compare(self._workspace.collection.pairs("test"), best, first, "test")
            confirmed = replace(confirmed, test=tested)
            self._workspace.progress.say(f"  {confirmed.tested}")
        return confirmed

    def _compare(self, pairs: Sequence[Pair], best: Candidate, first: Candidate, stage: str) -> tuple[Confirmed, float]:
        """Both programs on the lists of `pairs`, and nDCG@10 of the encoder's own order of these lists."""
        workspace, lists, orders = self._workspace, self._lists(pairs), []
        qrels = workspace.collection.qrels
        for label, candidate in (("compiled", best), ("first", first)):
            with workspace.progress.stage(f"{stage} {label}", "lists") as line, workspace.roles.used_for(CONFIRM):
                answers = read_by_lm(
                    lists, self.lm, self._definition, workspace.collection.passages, line,
                    candidate.program,
                )  # fmt: skip
                grades = answers.by_query()
                read = {
                    asked.query_id: by_grade(asked, grades[asked.query_id])
                    for asked in lists
                    if asked.query_id in grades
                }
                values = ndcg_of_lists(lists, read, qrels)
                line.note = f"{MAIN_METRIC} {mean(values):.4f}, {answers.unreadable} of {len(lists)} lists unread"
            orders.append(values)
        own = mean(ndcg_of_lists(lists, {asked.query_id: list(asked.doc_ids) for asked in lists}, qrels))
        how = f"order of the passages of labelled queries that no proposal has seen (the encoder's own {own:.4f})"
        return Confirmed.of(best.number, orders[0], orders[1], how=how), own
