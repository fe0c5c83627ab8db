"""Compile the program that writes queries. Its metric is the round trip: does the query retrieve its own passage?

    plan = QueriesPlan(workspace, "write_queries", WriteQueries())
    compiled(workspace, plan)      → the program; name its queries-program.json in `queries.program` to write with it

Examples and confirming passages are different passages, each from another cluster of the corpus. The candidate replaces
the program only if the 95 % interval of the paired difference in nDCG@10 of their round trips lies above 0.
"""

from __future__ import annotations

import random
from functools import cached_property

import dspy

from syneg.core.errors import DataError
from syneg.data.tasks import task_for
from syneg.llm.calls import in_threads, purpose
from syneg.negatives.queries import Asked, ask_for_queries, one_per_cluster
from syneg.optimizers import Candidate, QueriesTarget
from syneg.optimizers.queries import round_trip
from syneg.retrieval.metrics import mean

from .compile import CONFIRM, LEAST_CONFIRM
from .compiled import Confirmed
from .keys import source_of, stage_key
from .workspace import Workspace

PREFIX = "queries-"  # of file names in the run folder
_EXAMPLES = 20  # train queries shown to the program as examples of how users ask
_PASSAGES, _EMBEDDED_PASSAGES = 300, 60  # passages that confirm, with a remote and an embedded LM


class QueriesPlan:
    """Plan for the query-writing program `name`."""

    stage = "compile queries"

    def __init__(self, workspace: Workspace, name: str, program: dspy.Module) -> None:
        self._workspace, self.name, self.program = workspace, name, program
        self.path = workspace.folder.compiled(PREFIX)
        self._definition = task_for(workspace.config).definition

    def check(self) -> None:
        """Raise DataError if `compile.confirm` is set and fewer than two passages are left to confirm on."""
        if self._workspace.config.compile.confirm and len(self._asked[1]) < LEAST_CONFIRM:
            raise DataError(
                f"{len(self._asked[1])} passages are left to decide whether the compiled program is better",
                todo="lower compile.pairs, or let the score decide alone with --set compile.confirm=false",
            )

    @property
    def key(self) -> str:
        """A hash of settings, data, encoder, LMs and program."""
        workspace = self._workspace
        roles, encoder = workspace.roles, workspace.encoder
        return stage_key(
            self.stage, workspace.config, workspace.collection.fingerprint, encoder.fingerprint, encoder.prompts,
            roles.writer.identity, roles.reflection.identity, self.program.dump_state(), source_of(self.name),
        )  # fmt: skip

    @cached_property
    def _asked(self) -> tuple[list[Asked], list[Asked]]:
        """The passages that proposals see, and the passages that confirm."""
        workspace, config = self._workspace, self._workspace.config
        wanted = config.compile.confirm_queries
        if wanted == "auto":
            wanted = _EMBEDDED_PASSAGES if config.lm.model.startswith("local/") else _PASSAGES
        passages, pairs = workspace.collection.passages, config.compile.pairs
        count = pairs + wanted if wanted else len(passages)
        doc_ids = one_per_cluster(passages, workspace.encoder, count, config.seed)
        random.Random(f"{config.seed}:queries").shuffle(doc_ids)
        real = [] if config.writes_queries else [pair.query for pair in workspace.train_split[:_EXAMPLES]]
        asked = ask_for_queries(passages, doc_ids, real, config.generate.passage_words)
        return asked[:pairs], asked[pairs:]

    def _target(self, asked: list[Asked]) -> QueriesTarget:
        workspace = self._workspace
        return QueriesTarget(
            self.program, asked, workspace.collection.passages, workspace.encoder, self._definition,
            workspace.roles.writer,
        )  # fmt: skip

    def target(self) -> QueriesTarget:
        """Return the program with its examples, scored by round trips."""
        return self._target(self._asked[0])

    def confirm(self, best: Candidate, first: Candidate) -> Confirmed | None:
        """Compare both programs by nDCG@10 of their round trips on the confirming passages."""
        workspace, target = self._workspace, self._target(self._asked[1])
        lm, doc_ids, values = workspace.roles.writer, list(target.asks), []
        for label, candidate in (("compiled", best), ("first", first)):

            def work(place: int, program: dspy.Module = candidate.program) -> float:
                doc_id = doc_ids[place]
                with dspy.context(lm=lm.lm_for(0, 1), adapter=lm.adapter), purpose(f"query for {doc_id}") as current:
                    prediction = target.answer(program, target.asks[doc_id], current)
                return round_trip(target.judge(doc_id, prediction))

            with workspace.progress.stage(f"confirm {label}", "passages") as line, workspace.roles.used_for(CONFIRM):
                trips = dict(in_threads(work, len(doc_ids), lm.engine.config.concurrency))
                values.append({doc_ids[place]: value for place, value in sorted(trips.items())})
                line.note = f"round trip {mean(values[-1]):.4f}"
        how = "round trips of passages that no proposal has seen"
        confirmed = Confirmed.of(best.number, values[0], values[1], how, strict=True)
        workspace.progress.say(f"  confirm: {how}: {confirmed}")
        return confirmed
