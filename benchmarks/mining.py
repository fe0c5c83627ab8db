"""Mining against `mine_hard_negatives` of sentence-transformers: the same encoder, corpus, queries, window and margin.

    python benchmarks/mining.py --dataset beir/scifact --turns 3
    python benchmarks/mining.py --passages 100000 --turns 3
    python benchmarks/mining.py --quick

Both sides take dense neighbours of ranks 1 to `mine.last_rank`, leave out passages that score over 95 % of the
positive's score, and keep up to 12. `cold_s` includes all embedding; `warm_s` finds the embeddings on disk, in each
side's own cache. The model is loaded before the clock starts. The script also counts queries that lost their row,
negatives that are judged relevant (by id, and by text without case and punctuation), and the overlap of both sides.
With `--passages` the corpus is made (made.py), and the encoder a table of word vectors, which costs little.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, for both

os.environ.setdefault("TQDM_DISABLE", "1")

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import permutations
from pathlib import Path

import click
from configured import configured
from made import beir, static_encoder
from options import filled
from turns import Figures, in_turn, save, table

from syneg.core.config import Config
from syneg.core.near import near_key
from syneg.core.records import Pair
from syneg.data.collection import Collection, load_collection

PER_QUERY, MADE_PAIRS = 12, 1_000
MARGIN = 0.95


def inputs(sets: Sequence[str], pairs: int) -> tuple[Config, Collection, list[Pair]]:
    own = {"mine.sources": ("dense",), "mine.per_query": PER_QUERY, "mine.margin": MARGIN}
    config = configured(sets, own)
    collection = load_collection(config.collection, config.seed)
    return config, collection, collection.pairs("train")[: pairs or None]


def facts(collection: Collection, pairs: Sequence[Pair], negatives: dict[str, list[str]]) -> Figures:
    """Counts of the negatives of all queries: full rows, lost rows, negatives that are judged relevant."""
    ids = {text: doc_id for doc_id, text in collection.passages.items()}
    by_id = by_text = 0
    for pair in pairs:
        relevant, texts = (
            collection.relevant(pair.query_id),
            set(map(near_key, collection.relevant_texts(pair.query_id))),
        )
        by_id += sum(ids[text] in relevant for text in negatives[pair.query_id])
        by_text += sum(near_key(text) in texts for text in negatives[pair.query_id])
    found = [len(negatives[pair.query_id]) for pair in pairs]
    return {
        "queries": len(pairs), "full_rows": sum(n == PER_QUERY for n in found), "negatives": sum(found),
        "rows_lost": sum(n == 0 for n in found), "judged_by_id": by_id, "judged_by_text": by_text,
    }  # fmt: skip


def ours(sets: Sequence[str], pairs: int) -> Figures:
    with tempfile.TemporaryDirectory() as home:
        config, collection, rows = inputs(sets, pairs)
        from syneg.core.fetch import fetch
        from syneg.negatives.mining import mine
        from syneg.retrieval.encoder import Encoder

        if config.encoder.model.startswith("local/"):  # the weights stay where they are
            config = config.model_copy(
                update={"encoder": config.encoder.model_copy(update={"model": str(fetch(config.encoder.model))})}
            )
        os.environ["SYNEG_HOME"] = home
        seconds = {}
        for state in ("cold_s", "warm_s"):
            encoder = Encoder.load(config.encoder)
            start = time.perf_counter()
            mined = mine(collection, rows, encoder, config.mine)
            seconds[state] = time.perf_counter() - start
    negatives = {query_id: [negative.text for negative in found] for query_id, found in mined.negatives.items()}
    return {**seconds, **facts(collection, rows, negatives), "texts": negatives}


def theirs(sets: Sequence[str], pairs: int) -> Figures:
    with tempfile.TemporaryDirectory() as cache:
        config, collection, rows = inputs(sets, pairs)
        from datasets import Dataset, disable_progress_bars
        from sentence_transformers.util import mine_hard_negatives

        from syneg.retrieval.encoder import Encoder

        disable_progress_bars()
        encoder = Encoder.load(config.encoder)
        data = Dataset.from_dict({"anchor": [p.query for p in rows], "positive": [p.positive for p in rows]})
        seconds = {}
        for state in ("cold_s", "warm_s"):
            start = time.perf_counter()
            with encoder.autocast():
                mined = mine_hard_negatives(
                    data, encoder.model, corpus=list(collection.passages.values()), range_min=0,
                    range_max=config.mine.last_rank, relative_margin=1 - MARGIN, num_negatives=PER_QUERY,
                    batch_size=config.encoder.batch_size, use_faiss=True, output_format="triplet", cache_folder=cache,
                    verbose=False,
                )  # fmt: skip
            seconds[state] = time.perf_counter() - start
    negatives: dict[str, list[str]] = {pair.query_id: [] for pair in rows}
    ids = {(pair.query, pair.positive): pair.query_id for pair in rows}
    for row in mined:
        negatives[ids[row["anchor"], row["positive"]]].append(row["negative"])
    return {**seconds, **facts(collection, rows, negatives), "texts": negatives}


SIDES = {"ours": ours, "theirs": theirs}


def overlap(one: Figures, other: Figures) -> float:
    """Mean share of the negatives of `one` that `other` has too, over queries for which `one` has any."""
    shares = [len(set(texts) & set(other["texts"][q])) / len(set(texts)) for q, texts in one["texts"].items() if texts]
    return sum(shares) / len(shares)


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    dataset: str
    passages: int
    dim: int
    pairs: int
    turns: int
    sets: tuple[str, ...]
    quick: bool
    path: Path | None


@click.command()
@click.option("--dataset", default="beir/scifact", show_default=True)
@click.option("--passages", default=0, help="a made corpus of so many, and a table of word vectors as the encoder")
@click.option("--dim", default=384, show_default=True, help="of the word vectors")
@click.option("--pairs", default=0, help="train pairs, 0 = all (1,000 of a made corpus)")
@click.option("--turns", default=3, show_default=True)
@click.option(
    "--set", "sets", multiple=True, help="settings of the encoder and the collection, as in `syneg-dspy --set`"
)
@click.option("--quick", is_flag=True, help="a made corpus of 2,000 passages, one turn")
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    if options.quick:
        options = replace(options, passages=2_000, dim=32, pairs=40, turns=1)
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: partial(side, *settled(options, Path(folder))) for name, side in SIDES.items()}
        measured = in_turn(sides, options.turns)
    last = {name: figures[-1] for name, figures in measured.items()}
    shared = {f"{a}_in_{b}": overlap(last[a], last[b]) for a, b in permutations(last, 2)}
    for figures in measured.values():
        for turn in figures:
            del turn["texts"]
    print(table(measured, "theirs"))
    print("  ".join(f"{name} {share:.3f}" for name, share in shared.items()))
    asked = {name: value for name, value in asdict(options).items() if name not in ("quick", "path")}
    save(options.path, "mining", {**asked, **shared}, measured)


def settled(options: Options, folder: Path) -> tuple[tuple[str, ...], int]:
    """Settings and number of train pairs of both sides. A made corpus and its encoder are written to `folder`."""
    if not options.passages:
        return (f"collection.dataset={options.dataset}", *options.sets), options.pairs
    if not (folder / "encoder").exists():
        # twice the queries: half of them become dev, confirm and test
        beir(folder / "made", options.passages, 2 * (options.pairs or MADE_PAIRS))
        static_encoder(folder / "encoder", options.dim)
    made = (f"collection.dataset={folder}/made", f"encoder.model={folder}/encoder", "encoder.precision=fp32")
    return (*made, *options.sets), options.pairs or MADE_PAIRS


if __name__ == "__main__":
    main()
