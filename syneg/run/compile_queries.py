"""Compile the program that writes queries. Its metric is the round trip: does the query retrieve its own passage?

    plan = QueriesPlan(workspace, "write_queries", WriteQueries())
    compiled(workspace, plan)      → the program; name its queries-program.json in `queries.program` to write with it

Examples and confirming passages are different passages, each from another cluster of the corpus. The candidate replaces
the program only if the 95 % interval of the paired difference in nDCG@10 of their round trips lies above 0, and if
standard nDCG@10 of real queries, after a short training on the confirming queries, does not fall by more than its
error. Real dev queries rank candidates, those of confirm decide. Where all queries are written, only round trips count.
"""

from __future__ import annotations

import random
from functools import cached_property

import dspy

from syneg.core.threads import in_order
from syneg.llm.calls import purpose
from syneg.llm.lms import LanguageModel
from syneg.negatives.queries import Asked, ask_for_queries, one_per_cluster
from syneg.optimizers import Candidate, QueriesTarget
from syneg.optimizers.downstream import Downstream
from syneg.optimizers.queries import QueryWorth, round_trip, sound
from syneg.retrieval.metrics import mean, mean_and_error
from syneg.verdict.confirmed import Confirmed, differences

from .compile import CONFIRM
from .deciding import DecidedPlan, deciding

PREFIX = "queries-"  # of file names in the run folder
_WRITTEN = "w-"  # how the ids of written queries begin
_EXAMPLES = 20  # train queries shown to the program as examples of how users ask


class QueriesPlan(DecidedPlan):
    """Plan for the query-writing program `name`."""

    stage = "compile queries"
    prefix = PREFIX
    unit = "passages"

    @property
    def lm(self) -> LanguageModel:
        """The LM that writes."""
        return self._workspace.roles.writer

    @property
    def examples(self) -> int:
        """Number of passages that candidates are tried on."""
        return len(self._asked[0])

    @property
    def deciding(self) -> int:
        """Number of passages that confirm."""
        return len(self._asked[1])

    @cached_property
    def _asked(self) -> tuple[list[Asked], list[Asked]]:
        """The passages that proposals see, and the passages that confirm."""
        workspace, config = self._workspace, self._workspace.config
        wanted = deciding(config, config.lm.model)
        passages, pairs = workspace.collection.passages, config.compile.pairs
        count = pairs + wanted if wanted else len(passages)
        doc_ids = one_per_cluster(passages, workspace.encoder, count, config.seed)
        random.Random(f"{config.seed}:queries").shuffle(doc_ids)
        real = [] if config.writes_queries else [pair.query for pair in workspace.train_split[:_EXAMPLES]]
        asked = ask_for_queries(passages, doc_ids, real, config.generate.passage_words)
        return asked[:pairs], asked[pairs:]

    def _target(self, asked: list[Asked], split: str) -> QueriesTarget:
        """The program with the passages `asked`; the real queries of `split` tell what its queries do to retrieval."""
        workspace, config = self._workspace, self._workspace.config
        ids = workspace.collection.splits[split]
        real = [query_id for query_id in ids if not (config.writes_queries and query_id.startswith(_WRITTEN))]
        doc_ids = [one.doc_id for one in asked]
        downstream = Downstream(workspace.encoder, workspace.collection, config, real, doc_ids)
        return QueriesTarget(self.program, asked, downstream, self._definition, self.lm)

    def target(self) -> QueriesTarget:
        """Return the program with its examples, scored by round trips and by what its queries do to retrieval."""
        return self._target(self._asked[0], "dev")

    def confirm(self, best: Candidate, first: Candidate) -> Confirmed | None:
        """Compare both programs by nDCG@10 of their round trips on the confirming passages, and of confirm queries."""
        workspace, target = self._workspace, self._target(self._asked[1], "confirm")
        lm, doc_ids, values, after = self.lm, list(target.asks), [], []
        for label, candidate in (("compiled", best), ("first", first)):

            def work(doc_id: str, program: dspy.Module = candidate.program) -> QueryWorth:
                with dspy.context(lm=lm.lm_for(0, 1), adapter=lm.adapter), purpose(f"query for {doc_id}") as current:
                    prediction = target.answer(program, target.asks[doc_id], current)
                return target.judge(doc_id, prediction)

            with workspace.progress.stage(f"confirm {label}", "passages") as line, workspace.roles.used_for(CONFIRM):
                answers = in_order(work, doc_ids, lm.engine.config.concurrency)
                worths = dict(zip(doc_ids, answers, strict=True))
                values.append({doc_id: round_trip(worth) for doc_id, worth in worths.items()})
                after.append(target.downstream.gains(sound(worths)))
                line.note = f"round trip {mean(values[-1]):.4f}"
        how = "round trips of passages that no proposal has seen"
        standard = mean_and_error(differences(*after)) if all(after) else None
        confirmed = Confirmed.of(best.number, values[0], values[1], how=how, standard=standard)
        workspace.progress.say(f"  confirm: {how}: {confirmed.figures}. {confirmed.verdict}")
        return confirmed
