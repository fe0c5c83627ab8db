"""What the stages of a run share: settings, folder, collection, encoder, train pairs, mined negatives and LMs.

    workspace = Workspace(RunFolder(Path("runs/python-docs")), config, Progress())
    workspace.pairs      → [Pair(query_id="bisect.insort", query="Insert item x …", …), …]
    workspace.mined      → {"bisect.insort": [MinedNegative(doc_id="heapq.heappush", …), …], …}

Each part is made on first use, or read from the folder if its key is unchanged. `Run` walks the path of stages over one
workspace.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from syneg.core.config import Config, MineConfig
from syneg.core.counts import counted, part_of
from syneg.core.errors import DataError
from syneg.core.fetch import fetch_with_progress
from syneg.core.progress import Progress, Tick
from syneg.core.records import MinedNegative, Pair
from syneg.core.storage import write_rows
from syneg.data.collection import Collection, load_collection
from syneg.data.remarks import encoder_remark, losses, remarks
from syneg.llm.batch_files import Pending
from syneg.llm.role_settings import boundary_settings
from syneg.llm.roles import Roles
from syneg.negatives.mining import Mined, mine, more_advice
from syneg.negatives.strength import Strength, known_strength, strength
from syneg.negatives.text_reading import TrustedReader
from syneg.retrieval.encoder import Encoder
from syneg.verdict.sentences import NEAR_MISSES

from .cluster import Cluster
from .corpus_only import corpus_collection
from .folder import RunFolder
from .keys import stage_key
from .manifest import Manifest
from .mined_rows import read_mined, write_mined
from .windows import is_chosen, mining_of

STRENGTH = "strength"  # the use of an LM, as the ledger calls it
_FEWEST_NEAR = 16  # near-misses that an embedded LM writes at least
_GATED = 0.8  # share of the near-misses that pass the gates


class Workspace:
    """The shared inputs of one run folder. The process that uses them holds the lock of the folder."""

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        progress: Progress,
        pending: Pending | None = None,
        collection: Collection | None = None,
    ) -> None:
        """With `pending`, LM calls go into a batch file instead of being made.

        A `collection` in memory takes the place of the one that the settings name.
        """
        self.folder, self.config, self.progress = folder, config, progress
        self._pending, self._given = pending, collection
        self._cluster: Cluster | None = None
        self._announced: Callable[[], str] | None = None
        self.text_reader: Callable[[], TrustedReader | None] = lambda: None
        """The reader, where it decides about written texts over the margin."""
        self.unjudged: Callable[[], Mapping[str, Mapping[str, int]] | None] = lambda: None
        """The grades of a trusted reader for passages that nobody judged relevant, by query_id; None if none read."""

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest(self.folder, self.progress.say, self.progress.keep)

    @cached_property
    def collection(self) -> Collection:
        if self.config.writes_queries and self._given is None:
            self._given = corpus_collection(self)
        with self.progress.stage("collection") as line:
            settings = self.config.collection
            if self.config.compile.optimizer == "none":
                settings = settings.model_copy(update={"confirm": 0.0})  # only compiling uses it
            collection = self._given or load_collection(settings, self.config.seed)
            splits = ", ".join(f"{split} {len(ids)}" for split, ids in collection.splits.items())
            line.note = f"{collection.name}: {counted(len(collection.passages), 'passage')}; queries: {splits}"
        known = (*losses(collection), *collection.notes, *remarks(collection))
        for note in filter(None, (*known, encoder_remark(collection, self.config.encoder.model))):
            self.progress.say(f"  {note}")
        if problems := (*collection.problems, *collection.leaks):
            write_rows(self.folder.bad_rows, [{"problem": problem} for problem in problems])
        else:
            self.folder.bad_rows.unlink(missing_ok=True)
        self._mark_old_results(collection)
        self.manifest.note(collection=collection.fingerprint)
        return collection

    @cached_property
    def bare_encoder(self) -> Encoder:
        """The encoder, fetched and loaded; it needs no collection."""
        fetch_with_progress(self.config.encoder.model, self.progress)
        with self.progress.stage("encoder") as line:
            encoder = Encoder.load(self.config.encoder, embedders=self.cluster, index=self.config.mine.index)
            line.note = encoder.describe()
        return encoder

    def _mark_old_results(self, collection: Collection) -> None:
        """If the collection has changed, remove the rankings of the old one, and say that its models are kept."""
        before = self.manifest.facts.get("collection")
        if before in (None, collection.fingerprint):
            return
        for path in (self.folder / "runs").glob("*.trec"):
            path.unlink()
        if any((self.folder / "models").glob("*")):
            self.progress.say(
                "  the collection has changed: models that are not trained again belong to the earlier one"
            )

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder. Says on first use how many passages are longer than its limit and are cut."""
        encoder = self.bare_encoder
        longer, exact = encoder.longer_than_limit(self.collection.passages.values())
        said = part_of(longer, len(self.collection.passages), "passage", "is longer and is", "are longer and are")
        cut = f"{'' if exact else 'about '}{said} cut"
        for note in (*encoder.notes, *([cut] if longer else [])):
            self.progress.say(f"  {note}")
        self.manifest.note(encoder=encoder.fingerprint)
        return encoder

    @cached_property
    def train_split(self) -> list[Pair]:
        """All pairs of the train split, shuffled by seed. Training and writing each take the first ones."""
        pairs = self.collection.pairs("train")
        random.Random(self.config.seed).shuffle(pairs)
        return pairs

    def _first(self, limit: int, what: str, flag: str) -> list[Pair]:
        """The first `limit` pairs of the train split (0 = all). If there are more, says what the first ones are."""
        pairs = self.train_split
        if 0 < limit < len(pairs):
            self.progress.say(f"  {part_of(limit, len(pairs), 'train pair', 'is', 'are')} {what} ({flag} 0 for all)")
        return pairs[: limit or None]

    @cached_property
    def pairs(self) -> list[Pair]:
        """The pairs that are trained on: the first `train.pairs` of the train split. Says on first use how many."""
        return self._first(self.config.train.pairs, "trained on", "--train-pairs")

    @cached_property
    def _written_for(self) -> list[Pair]:
        return self._first(self.config.generate.pairs, "given written negatives", "--pairs")

    @property
    def pairs_to_write(self) -> list[Pair]:
        """The pairs that get synthetic negatives: the first `generate.pairs` of the train split.

        With `generate.shard = "2/8"`, only the 2nd, 10th, 18th, … of them.
        """
        part, parts = map(int, self.config.generate.shard.split("/"))
        return self._written_for[part - 1 :: parts]

    @property
    def boundary_queries(self) -> int:
        """The number of held-out queries that get near-misses, if there are that many.

        `auto` writes enough for `NEAR_MISSES` to pass the gates. An embedded LM, which needs hours for them, writes as
        many as train queries get negatives.
        """
        wanted, enough = self.config.boundary.queries, round(NEAR_MISSES / _GATED)
        if wanted != "auto":
            return wanted
        if not boundary_settings(self.config).model.startswith("local/"):
            return enough
        return min(enough, max(_FEWEST_NEAR, len(self.pairs_to_write)))

    @property
    def pairs_to_mine(self) -> list[Pair]:
        """The pairs that are trained on or written for."""
        limits = self.config.train.pairs, self.config.generate.pairs
        return self.train_split[: max(limits) if all(limits) else None]

    @cached_property
    def mining(self) -> MineConfig:
        """The settings of mining. `mine.margin = auto` is replaced by the margin that was chosen."""
        return mining_of(self)

    @cached_property
    def mined(self) -> dict[str, list[MinedNegative]]:
        """query_id → mined negatives, the hardest first. Raises DataError if mining finds none for any query."""
        self.manifest.make("mine", self._mining_key, self.folder.mined, self._mine)
        mined = read_mined(self.folder.mined)
        if not mined:
            advice = more_advice(len(self.collection.passages), self.config.mine)
            raise DataError("mining found no negatives", where=str(self.folder.mined), todo=advice)
        return mined

    @property
    def is_mined(self) -> bool:
        """Whether the mined negatives are on disk for these settings."""
        path = self.folder.mined
        return path.exists() and is_chosen(self) and self.manifest.has("mine", self._mining_key, path)

    @property
    def _mining_key(self) -> str:
        config = self.config.model_copy(update={"mine": self.mining})
        return stage_key("mine", config, self.collection.fingerprint, self.encoder.fingerprint, self.encoder.prompts,
                         [pair.query_id for pair in self.pairs_to_mine])  # fmt: skip

    def mine_for(self, pairs: Sequence[Pair], progress: Tick | None = None) -> Mined:
        """Mine negatives for any pairs of the collection, with the settings of the run. Writes no file."""
        return mine(self.collection, pairs, self.encoder, self.mining, progress)

    def with_splits_of(
        self, collection: Collection, folder: RunFolder, mined: dict[str, list[MinedNegative]]
    ) -> Workspace:
        """Return a workspace over other splits of the same queries, in `folder`. It shares the encoder and the LMs."""
        other = Workspace(folder, self.config, self.progress, collection=collection)
        other.collection, other.mined, other.mining = collection, mined, self.mining
        other.bare_encoder, other.encoder, other.roles = self.bare_encoder, self.encoder, self.roles
        return other

    def _mine(self) -> None:
        with self.progress.stage("mine", "passages") as line:
            mining = self.mine_for(self.pairs_to_mine, line)
            written = write_mined(self.folder.mined, mining.negatives)
            self.manifest.note(mine={"skipped": dict(mining.skipped), "short": mining.short})
            for note in mining.notes:
                self.progress.say(f"  {note}")
            found, queries = sum(map(bool, mining.negatives.values())), counted(len(self.pairs_to_mine), "query")
            of = f"{found} of " if found < len(self.pairs_to_mine) else ""
            line.note = f"{counted(written, 'negative')} for {of}{queries}"

    @property
    def cluster(self) -> Cluster | None:
        """The Ray cluster of the run; None if this process makes the LM calls and the embeddings."""
        if self._cluster is None and self.config.executor.use == "ray":
            self._cluster = Cluster(self.config.executor)
        return self._cluster

    @cached_property
    def roles(self) -> Roles:
        """The LMs of the run, by role: writer, judge, reader, reflection."""
        cluster = self.cluster
        return Roles(
            self.folder.path, self.config, self.progress, cluster.lm if cluster else None, self._pending, self._announce
        )

    def announce(self, line: Callable[[], str]) -> None:
        """Print the result of `line` once, before the first LM call that the ledger does not answer."""
        self._announced = line

    def _announce(self) -> None:
        line, self._announced = self._announced, None
        if line is not None:
            self.progress.say(line())

    def close_lms(self) -> None:
        """Close the LMs to free their memory for training. They open again on next use."""
        self.roles.close()

    def close(self) -> None:
        """Close the LMs and leave the cluster."""
        self.close_lms()
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    @cached_property
    def strength(self) -> Strength:
        """The share of small writing tests that the writer passes. Settings that are `auto` follow it."""
        with self.progress.stage(STRENGTH, "tests") as line, self.roles.used_for(STRENGTH):
            measured = strength(self.roles.writer, line)
            faults = ", ".join(f"{fault} {n}" for fault, n in measured.faults.items())
            why = f" (not: {faults})" if faults else ""
            kind = "strong" if measured.strong else "small"
            line.note = f"{measured.passed} of {measured.written} test texts are usable{why}: a {kind} model"
        return measured

    @property
    def goes_by_batch(self) -> bool:
        """Whether LM calls go into a batch file."""
        return self._pending is not None

    @cached_property
    def is_strong(self) -> bool:
        """Whether the writer is a strong LM.

        With a batch file, an LM that was never tested is not tested: a hosted LM counts as strong, an embedded LM as
        small.
        """
        if not self.goes_by_batch or known_strength(self.roles.writer) is not None:
            return self.strength.strong
        strong = not self.config.lm.model.startswith("local/")
        self.progress.say(
            f"  {self.config.lm.model} was never tested: it is taken as {'strong' if strong else 'small'}; "
            "--program and --judge decide otherwise"
        )
        return strong
