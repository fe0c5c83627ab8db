"""The target `sampler`: race settings that choose negatives, by probes trained on their rows and scored on dev queries.

    trials = SamplerTrials(encoder, collection, pairs, config)
    trials.race([Sampler("95 % rule", {"mine.margin": .95}), Sampler("no margin", {"mine.margin": 1e9})])
      → Race(winner="no margin", cross=.011, …)

A sampler is a set of settings of [mine], [mix] and [train]. The pairs are divided into `BLOCKS` blocks. In each block,
every sampler still in the race trains one probe, the one of `syneg.optimizers.objective`. All samplers share the cached
output of the layers below it. Queries of the other blocks are held out for a block, so no folds are needed. A probe of
the last layer alone takes less time but is too weak: on SciFact it does not find that no margin is better
(docs/lab_notes.md, "The race of margins"). Blocks of 100 pairs are too small: what a margin costs grows with the pairs
(docs/lab_notes.md, "Larger blocks for the race").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from syneg.core.config import Config
from syneg.core.errors import DataError
from syneg.core.records import HardNegative, MinedNegative, Pair, fingerprint
from syneg.data.collection import Collection
from syneg.negatives.mining import Mined, Rankings
from syneg.retrieval.dev_set import dev_set
from syneg.retrieval.encoder import Encoder
from syneg.training.sampling import ARMS, Supply, filling_of, mix

from .objective import held_out_queries, worth
from .probe import Probe
from .racing import Race, race

BLOCKS = 2
PAIRS = 256  # of a block; a probe of the fewest steps, 16 batches of 32, sees each twice
Settings = Mapping[str, object]  # "mine.margin" → .95


@dataclass(frozen=True)
class Sampler:
    """One way to choose negatives: a readable name, and the settings that differ from the run's.

    `arm` (one of sampling.ARMS) fills the places of the rows; an order that it has by default replaces `train.order`.
    """

    name: str
    settings: Settings
    arm: str = "mined"

    def of(self, config: Config) -> Config:
        """The settings `config` of a run, changed by this sampler's settings."""
        order = ARMS[self.arm].order
        by_section: dict[str, dict[str, object]] = {}
        for key, value in {**self.settings, **({"train.order": order} if order else {})}.items():
            section, _, name = key.partition(".")
            by_section.setdefault(section, {})[name] = value
        changed = {name: getattr(config, name).model_copy(update=values) for name, values in by_section.items()}
        return config.model_copy(update=changed)


@dataclass(frozen=True)
class Material:
    """What arms use besides mined negatives, by query_id.

    `written` are synthetic negatives, `grounded` the real passages near them. For arms that use a reader's grades,
    `graded` are its negatives, `extra[query_id][doc_id]` the texts of its new positives, and `masked` those that are no
    in-batch negatives.
    """

    written: Mapping[str, Sequence[HardNegative]] = field(default_factory=dict)
    graded: Mapping[str, Sequence[MinedNegative]] = field(default_factory=dict)
    extra: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    masked: Mapping[str, Sequence[str]] = field(default_factory=dict)
    grounded: Mapping[str, Sequence[MinedNegative]] = field(default_factory=dict)


class SamplerTrials:
    """Trains and scores probes for samplers, on train pairs and held-out queries of a collection.

    Raises DataError if the collection has no dev queries.
    """

    def __init__(
        self,
        encoder: Encoder,
        collection: Collection,
        pairs: Sequence[Pair],
        config: Config,
        material: Material | None = None,
    ) -> None:
        if not collection.splits["dev"]:
            raise DataError("no dev queries to choose on", todo="give the collection a dev split")
        self._config, self._material = config, material or Material()
        used = list(pairs)[: BLOCKS * PAIRS]
        self.blocks = [used[place::BLOCKS] for place in range(BLOCKS)]
        own = [pair.query_id for pair in used]
        held_out = held_out_queries(collection, own, config.probe.queries, config.seed)
        self._held_out = dev_set(encoder, collection, config.probe.passages, config.seed, held_out)
        relevant = {query_id: collection.answers(query_id) for query_id in {*held_out, *own}}
        self._probe = Probe(encoder, self._held_out, relevant, config.train, config.probe)
        self._rankings = Rankings.near(collection, used, encoder, config.mine).kept()
        self._mined: dict[str, Mined] = {}
        self._values: dict[tuple[str, int], dict[str, dict[str, float]]] = {}

    def race(self, samplers: Sequence[Sampler], progress: Callable[[int, int], None] | None = None) -> Race:
        """Race the samplers. The first one wins if the race is not sure."""
        by_name = {sampler.name: sampler for sampler in samplers}
        return race(list(by_name), BLOCKS, lambda name, block: self.values(by_name[name], block), worth, progress)

    def values(self, sampler: Sampler, block: int) -> dict[str, dict[str, float]]:
        """metric → query_id → value of the held-out queries, after training on the pairs of one block.

        The metrics are nDCG@10 and the log-likelihood. Equal settings are trained only once.
        """
        key = fingerprint(sampler.arm, sampler.of(self._config).model_dump(mode="json"))
        if (key, block) not in self._values:
            self._values[key, block] = self._trained(sampler, block)
        return self._values[key, block]

    def _trained(self, sampler: Sampler, block: int) -> dict[str, dict[str, float]]:
        config, pairs = sampler.of(self._config), self.blocks[block]
        key, material = config.mine.model_dump_json(), self._material
        if key not in self._mined:
            self._mined[key] = self._rankings.take(config.mine)
        written = {q: [(text, config.mix.weight) for text in texts] for q, texts in material.written.items()}
        supply = Supply(pairs, self._mined[key].negatives, written, grounded=material.grounded, use="first")
        reads = filling_of(sampler.arm, config.mix).read
        if reads:
            supply = replace(supply, mined={**supply.mined, **material.graded}, extra=material.extra, use="draw")
        seed = config.seed + block
        rows = mix(supply, config.mix, arm=sampler.arm, seed=seed)
        self._probe.train(rows, seed=seed, loss_of=config.train, masked=material.masked if reads else None)
        own = {pair.query_id for pair in pairs}
        return self._probe.score([query_id for query_id in self._held_out.queries if query_id not in own])
