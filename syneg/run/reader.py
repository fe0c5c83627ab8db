"""Grade passages with the reader of a run: an LM, a cross-encoder (`reader.cross_encoder`) or a file (`reader.given`).
Its grades are first compared with the labels of dev queries, and used only if it is trusted.

    reader = Reader(workspace)
    print(reader.measured.table())
      measured on 40 dev queries, 0 more without a readable answer
      hidden positives            44   graded 3: 31, graded 2: 9
      recall of 2 and 3         0.91   [0.82, 0.98]
      known negatives             40   graded 2 or 3: 1 (0.03)
      Cohen's kappa             0.88   [0.78, 0.97], wanted 0.4
      nDCG@10 of its order     0.871   of the encoder's 0.764: +0.107 [+0.041, +0.172]
      trusted (kappa as wanted and a better order, neither by chance)

The agreement on dev queries is kept in reader.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import dspy

from syneg.core.counts import counted, part_of
from syneg.core.errors import DataError
from syneg.core.progress import Tick
from syneg.core.records import Pair
from syneg.core.storage import read_json, sha256_of, write_json
from syneg.core.text import word_count
from syneg.data.tasks import task_for
from syneg.llm.capabilities import adapter_for
from syneg.llm.role_settings import reader_settings, strong_reader_settings
from syneg.llm.roles import DOUBT
from syneg.negatives.cascade import in_doubt, replaced
from syneg.negatives.cross_reading import CrossReader, Thresholds
from syneg.negatives.given_readings import given_readings, lists_of, with_known_negative
from syneg.negatives.reader_agreement import agreement
from syneg.negatives.reading import (
    Answers,
    Reading,
    ToRead,
    lists_to_read,
    near_lists,
    ordered,
    passages_in_a_list,
    read_by_lm,
)
from syneg.programs import load_reader_program
from syneg.programs.grade_list import SHOWN_WORDS, GradeList
from syneg.verdict.statistics import paired_interval

from .compile import compiled, is_compiled
from .compile_reader import PREFIX, ReaderPlan
from .compiled import save_program
from .costs import cost_of
from .keys import stage_key
from .measured import Measured
from .workspace import Workspace

_FEWEST = 8  # dev lists needed in a file of grades; with fewer, train lists measure it
MEASURE = "measure reader"  # name of the stage, and of the LM use in the ledger
_VERSION = 2  # of reader.json; part of its key


class Reader:
    """Grades lists of passages, and measures whether its grades can be trusted."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._config = workspace.config.reader
        self._embedded_corpus = self._said_cut = False

    @cached_property
    def plan(self) -> ReaderPlan:
        """The program that grades, with the lists and settings that a compilation needs."""
        name = self._config.program
        return ReaderPlan(self._workspace, name, load_reader_program(name), self.lists)

    @cached_property
    def program(self) -> dspy.Module:
        """The program that grades; compiled first if the settings say so."""
        workspace, plan = self._workspace, self.plan
        if not workspace.config.compile.improves("reader"):
            return plan.program
        best, adapter = compiled(workspace, plan), adapter_for(reader_settings(workspace.config))
        save_program(workspace.folder, PREFIX, best, plan.name, adapter, before=plan.program)
        return best

    @property
    def grader(self) -> dspy.Module:
        """The program of every LM that grades, also of the strong one. Beside a cross-encoder nothing is compiled."""
        return self.plan.program if self._config.given or self._config.cross_encoder else self.program

    @property
    def is_compiled(self) -> bool:
        """Whether `program` can be loaded without LM calls: it is compiled already, or is not to be."""
        return not self._workspace.config.compile.improves("reader") or is_compiled(self._workspace, self.plan)

    @property
    def uses_lm(self) -> bool:
        """Whether the grades come from an LM. Grades of a file (`reader.given`) count as an LM's."""
        return not self._config.cross_encoder or self._config.strong is not None

    @property
    def _embedded(self) -> bool:
        asks = not self._config.given and not self._config.cross_encoder
        return asks and reader_settings(self._workspace.config).model.startswith("local/")

    def refusal(self) -> str:
        """Return why arms must not use the reader's grades; "" if they may. Measures the reader if needed."""
        if self._config.use == "off":
            return "reader.use is off"
        if self._config.use == "on":
            return ""
        if self._embedded and not self.is_measured:
            return (
                "no embedded LM reads unasked: measure it with `syneg-dspy read`, or name another LM or a cross-encoder"
            )
        return "" if self.measured.trusted else f"the reader is not trusted: {'; '.join(self.measured.doubts)}"

    @property
    def order(self) -> list[float] | None:
        """[nDCG@10 of the reader's order, of the encoder's, low and high end of the gain's 95 % interval], on dev.

        None if the reader is used without a test (`reader.use = on`).
        """
        if self._config.use == "on":
            return None
        return [*self.measured.agreement.ndcg, *(self.measured.interval or (-1.0, 1.0))]

    @cached_property
    def measured(self) -> Measured:
        """The reader's agreement with the labels of dev queries; kept in reader.json."""
        workspace = self._workspace
        split, lists = self._to_measure

        def work() -> None:
            thresholds = self._fitted() if self._config.cross_encoder else None
            with workspace.progress.stage(MEASURE, "lists") as line, workspace.roles.used_for(MEASURE):
                answers = self.answers(lists, thresholds, line)
                agreed = agreement(lists, answers.by_query(), workspace.collection.qrels)
                measured = Measured(
                    self.identity, split, agreed, paired_interval(agreed.gains), self._config.min_kappa,
                    cost_of(answers.calls), thresholds, answers.in_doubt if self._config.strong else None,
                )  # fmt: skip
                line.note = f"reader {self.identity.split('@')[0]}: {'trusted' if measured.trusted else 'not trusted'}"
            for row in measured.table().splitlines():
                workspace.progress.say(f"  {row}")
            write_json(workspace.folder.reader, measured.to_json())

        workspace.manifest.make(MEASURE, self._measure_key, workspace.folder.reader, work)
        return Measured.from_json(read_json(workspace.folder.reader))

    @property
    def _measure_key(self) -> str:
        _, lists = self._to_measure
        fitted_on = self._workspace.pairs[: self._config.sample] if self._config.cross_encoder else []
        return self.key([(each.query_id, each.doc_ids) for each in lists], [p.query_id for p in fitted_on], _VERSION)

    @property
    def is_measured(self) -> bool:
        """Whether reader.json holds the agreement for these settings."""
        if not self.is_compiled:
            return False
        path = self._workspace.folder.reader
        return path.exists() and self._workspace.manifest.has(MEASURE, self._measure_key, path)

    @cached_property
    def _to_measure(self) -> tuple[str, list[ToRead]]:
        collection = self._workspace.collection
        if not self._config.given:
            pairs = collection.pairs("dev")[: self._config.sample]
            return "dev", self.lists(pairs)
        dev = lists_of(self.given, collection, set(collection.splits["dev"]))
        if len(dev) >= _FEWEST:
            return "dev", self._ordered(dev)
        train = lists_of(self.given, collection, {pair.query_id for pair in self._workspace.pairs})
        return "train", self._ordered(train)

    def answers(self, lists: Sequence[ToRead], thresholds: Thresholds | None, progress: Tick) -> Answers:
        """Grade `lists`. `thresholds` turn scores of a cross-encoder into grades; None for other readers.

        With `reader.strong`, the strong LM grades lists in doubt again.
        """
        workspace, passages = self._workspace, self._workspace.collection.passages
        if self._config.given:
            wanted = {asked.query_id for asked in lists}
            return Answers([reading for reading in self.given if reading.query_id in wanted])
        definition = task_for(workspace.config).definition
        if thresholds is not None:
            answers = self._cross.read(lists, passages, thresholds, progress)
        else:
            answers = read_by_lm(lists, workspace.roles.reader_lm, definition, passages, progress, self.grader)
        if not self._config.strong:
            return answers
        again, roles = in_doubt(lists, answers), workspace.roles
        with roles.used_for(DOUBT):
            second = read_by_lm(again, roles.strong_reader_lm, definition, passages, program=self.grader)
        return replaced(answers, second, len(again))

    def lists(self, pairs: Sequence[Pair]) -> list[ToRead]:
        """Choose the passages to grade for the queries of `pairs`, one list for each query.

        Shows its progress on first use, when it embeds the corpus; so no stage may be open then.
        """
        workspace = self._workspace
        self._embed()
        count = passages_in_a_list(self._config, self._models)
        lists = lists_to_read(workspace.collection, workspace.encoder, pairs, count, workspace.config.seed)
        self._say_cut(lists)
        return lists

    def lists_near(self, near: Mapping[str, Sequence[str]], purpose: str) -> list[ToRead]:
        """Choose the passages to grade for each query_id of `near` from its doc_ids, in one list for each query.

        The ledger calls the reading of it `purpose`.
        """
        workspace, count = self._workspace, passages_in_a_list(self._config, self._models)
        lists = near_lists(workspace.collection, workspace.encoder, near, count, workspace.config.seed)
        self._say_cut(lists)
        return [replace(asked, purpose=purpose) for asked in lists]

    @property
    def _models(self) -> list[str]:
        """Names of the LMs that grade."""
        config = self._workspace.config
        models = [] if self._config.cross_encoder else [reader_settings(config).model]
        return [*models, strong_reader_settings(config).model] if self._config.strong else models

    def _say_cut(self, lists: Sequence[ToRead]) -> None:
        """Say once that the built-in program shows only the beginning of a passage, if passages are longer."""
        if self._said_cut or not self._models or not isinstance(self.plan.program, GradeList):
            return
        self._said_cut = True
        shown = {doc_id for asked in lists for doc_id in asked.doc_ids}
        longer = sum(word_count(self._workspace.collection.passages[doc_id]) > SHOWN_WORDS for doc_id in shown)
        if longer:
            said = part_of(longer, len(shown), "passage", "is", "are")
            self._workspace.progress.say(f"  {said} longer than the {SHOWN_WORDS} words that the reader sees of each")

    def _embed(self) -> None:
        """Embed the corpus, which is searched for the passages of the lists; once."""
        if self._embedded_corpus:
            return
        encoder, passages = self._workspace.encoder, self._workspace.collection.passages
        with self._workspace.progress.stage("embed", "passages") as line:
            encoder.index(passages, line)
            line.note = f"{counted(len(passages), 'passage')} to choose from"
        self._embedded_corpus = True

    def _ordered(self, lists: Sequence[ToRead]) -> list[ToRead]:
        if not lists and self._config.use != "on":
            raise DataError(
                "the given grades name no known positive, so they cannot be measured",
                where=str(self._config.given), todo="set reader.use=on to use them untested",
            )  # fmt: skip
        in_order = ordered(lists, self._workspace.collection.passages, self._workspace.encoder)
        return [with_known_negative(asked) for asked in in_order]

    @cached_property
    def given(self) -> list[Reading]:
        """The grades in `reader.given` for queries and passages of the collection."""
        workspace = self._workspace
        path = Path(self._config.given or "").expanduser()
        readings, notes = given_readings(path, workspace.collection, workspace.config.collection.max_bad_rows)
        for note in notes:
            workspace.progress.say(f"  {note}")
        return readings

    @cached_property
    def _cross(self) -> CrossReader:
        return CrossReader.load(self._config.cross_encoder or "", self._workspace.config.encoder.device)

    def _fitted(self) -> Thresholds:
        workspace = self._workspace
        lists = self.lists(self._workspace.pairs[: self._config.sample])
        with workspace.progress.stage("fit thresholds", "lists") as line:
            fitted = self._cross.fitted(lists, workspace.collection.passages, line)
            line.note = f"thresholds of the cross-encoder from {len(lists)} train queries"
        return fitted

    @property
    def identity(self) -> str:
        """Name of the LM, cross-encoder or file, with a hash of everything that decides its grades."""
        if self._config.given:
            return f"given@{sha256_of(Path(self._config.given).expanduser())[:12]}"
        roles = self._workspace.roles
        cheap = self._cross.identity if self._config.cross_encoder else roles.reader_lm.identity
        return f"{cheap}, in doubt {roles.strong_reader_lm.identity}" if self._config.strong else cheap

    def key(self, *inputs: Any) -> str:
        """Return the key of a result that depends on the reader and on `inputs`."""
        workspace = self._workspace
        return stage_key(
            "read", workspace.config, workspace.collection.fingerprint, workspace.encoder.fingerprint,
            workspace.encoder.prompts, self.identity, self.grader.dump_state(), *inputs,
        )  # fmt: skip
