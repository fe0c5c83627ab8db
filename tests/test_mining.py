from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import ACTIONS, THINGS

from syneg.core.config import CollectionConfig, EncoderConfig, MineConfig
from syneg.core.near import near_key
from syneg.core.progress import Progress
from syneg.core.records import Pair
from syneg.core.settings import load_config
from syneg.data.collection import Collection, load_collection
from syneg.negatives.grounding import ground, nearest
from syneg.negatives.mining import Rankings, mine
from syneg.retrieval.dev_set import dev_set
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.evaluation import evaluate_model
from syneg.retrieval.indexes import DenseIndex, LexicalIndex, search_corpus
from syneg.run.folder import RunFolder
from syneg.run.workspace import Workspace


@pytest.fixture
def collection(beir: Path) -> Collection:
    found = load_collection(CollectionConfig(dataset=str(beir)))
    first = found.splits["train"][0]
    relevant = next(iter(found.relevant(first)))
    # a second relevant passage of a low grade, and a copy of the positive that nobody judged
    found.passages["copy"] = found.passages[relevant].upper() + "!!"
    found.qrels[first]["d95"] = 1
    found.qrels[first][relevant] = 3
    return found


@pytest.fixture
def encoder(encoder_path: str) -> Encoder:
    return Encoder.load(EncoderConfig(model=encoder_path, precision="fp32"))


def test_nothing_relevant_is_ever_mined_by_id_or_by_text(collection: Collection, encoder: Encoder) -> None:
    pairs = collection.pairs("train")
    collection.passages["asked"] = f"{collection.queries[pairs[0].query_id].upper()}?"  # the query stands in the corpus
    config = MineConfig(last_rank=98, per_query=97, margin=99)
    mined = mine(collection, pairs, encoder, config)
    assert "asked" not in {negative.doc_id for negative in mined.negatives[pairs[0].query_id]}
    assert "asked" in {negative.doc_id for negative in mined.negatives[pairs[1].query_id]}
    for pair in pairs:
        relevant = collection.relevant(pair.query_id)
        texts = {near_key(collection.passages[doc_id]) for doc_id in relevant}
        found = mined.negatives[pair.query_id]
        assert len(found) > 80
        assert not relevant & {n.doc_id for n in found}
        assert not texts & {near_key(n.text) for n in found}
        assert len({n.doc_id for n in found}) == len(found)
    assert mined.skipped["judged relevant"] >= len(pairs)
    assert mine(collection, pairs, encoder, config).negatives == mined.negatives


def test_the_margin_and_the_window_hold(collection: Collection, encoder: Encoder) -> None:
    pairs = collection.pairs("train")[1:]
    mined = mine(collection, pairs, encoder, MineConfig(first_rank=5, last_rank=30, per_query=8))
    queries = encoder.encode([pair.query for pair in pairs], "query")
    for pair, query in zip(pairs, queries, strict=True):
        positive = float(encoder.encode([pair.positive], "passage")[0] @ query)
        for negative in mined.negatives[pair.query_id]:
            assert negative.score <= 0.95 * positive
            assert 5 <= negative.rank <= 30
    assert mined.skipped["over the margin of the positive"] > 0


def test_negatives_that_the_data_names_are_taken_outside_of_margin_and_window(
    collection: Collection, encoder: Encoder
) -> None:
    first, second, *_ = pairs = collection.pairs("train")
    closest = mine(collection, [first], encoder, MineConfig(margin=99)).negatives[first.query_id][0].doc_id
    named = {first.query_id: ("copy", closest, first.doc_id)}  # a copy of the positive and the positive are none
    own = replace(collection, given_negatives=named)
    config = MineConfig(margin=0.01, first_rank=20, last_rank=30, per_query=5)
    mined = mine(own, pairs, encoder, config)
    assert [n.doc_id for n in mined.negatives[first.query_id] if n.source == "given"] == [closest]
    assert {n.source for n in mined.negatives[second.query_id]} <= {"dense", "bm25"}
    assert f"1 of {sum(map(len, mined.negatives.values()))} negatives is named by the data" in mined.notes
    assert not [note for note in mined.notes if note.startswith("given")]
    wide = MineConfig(margin=99, per_query=3)
    assert [n.source for n in mine(own, [first], encoder, wide).negatives[first.query_id]] == ["given", "dense", "bm25"]


def test_several_rules_take_from_one_search_what_each_would_mine(collection: Collection, encoder: Encoder) -> None:
    pairs = collection.pairs("train")[:8]
    rules = [
        MineConfig(margin=0.9), MineConfig(margin=99), MineConfig(margin=99, first_rank=4),
        MineConfig(margin=99, sources=("bm25",)),
    ]  # fmt: skip
    rankings = Rankings.near(collection, pairs, encoder, MineConfig()).kept()
    taken = [rankings.take(rule).negatives for rule in rules]
    assert taken == [mine(collection, pairs, encoder, rule).negatives for rule in rules]
    assert all(one != other for place, one in enumerate(taken) for other in taken[:place])


def test_a_pair_takes_the_highest_grade(collection: Collection) -> None:
    pair = next(p for p in collection.pairs("train") if p.query_id == collection.splits["train"][0])
    assert collection.qrels[pair.query_id][pair.doc_id] == 3


def test_dense_search_is_exact_and_bm25_leaves_out_what_shares_no_word() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(50, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"d{i}" for i in range(50)]
    found = DenseIndex(names, vectors).search(vectors[:3], 60)
    for i, hits in enumerate(found):
        order = np.argsort(-(vectors @ vectors[i]))
        assert [doc_id for doc_id, _ in hits] == [names[j] for j in order]
    index = LexicalIndex({"a": "close the socket", "b": "open the file", "c": "the"})
    assert [[d for d, _ in hits] for hits in index.search(["the socket of a file", "the", ""], 9)] == [
        ["a", "b"],
        [],
        [],
    ]


def test_a_passage_with_the_id_of_the_query_counts_only_when_judged(collection: Collection, encoder: Encoder) -> None:
    query_id = collection.splits["test"][0]
    collection.passages[query_id] = collection.queries[query_id]
    ranking = evaluate_model(encoder, collection, depth=10)["test"].ranking[query_id]
    assert query_id not in ranking
    collection.qrels[query_id][query_id] = 1
    assert query_id in evaluate_model(encoder, collection, depth=10)["test"].ranking[query_id]


def test_the_cache_knows_prompt_length_and_weights(encoder: Encoder, encoder_path: str) -> None:
    encoder.encode(["close a socket"], "passage")
    other = Encoder.load(EncoderConfig(model=encoder_path, precision="fp32", passage_prompt="file "))
    assert other._store("passage").missing(["close a socket"]) == [0]
    assert (
        Encoder.load(EncoderConfig(model=encoder_path, precision="fp32"))._store("passage").missing(["close a socket"])
        == []
    )
    assert Encoder.load(EncoderConfig(model=encoder_path, precision="bf16"))._store("passage").missing(
        ["close a socket"]
    ) == [0]


def test_a_positive_below_zero_lets_nothing_over_it(collection: Collection, encoder: Encoder) -> None:
    query_id = collection.splits["train"][1]
    ids = list(collection.passages)
    scores = encoder.encode(list(collection.passages.values()), "passage") @ encoder.encode([collection.queries[query_id]], "query")[0]  # fmt: skip
    order = np.argsort(scores)
    # a positive under zero with a passage right over it, closer than 5 %
    place = next(
        i for i in range(len(order) - 1) if scores[order[i]] < scores[order[i + 1]] < 0.95 * scores[order[i]] < 0
    )
    low = ids[order[place]]
    collection.qrels[query_id] = {low: 1}
    pair = replace(collection.pairs("train")[1], doc_id=low, positive=collection.passages[low])
    found = mine(collection, [pair], encoder, MineConfig(last_rank=97, per_query=97)).negatives[query_id]
    assert all(n.score < scores[order[place]] * 1.05 + 1e-6 for n in found)
    assert ids[order[place + 1]] not in {n.doc_id for n in found}


def test_passages_that_hold_the_positive_or_are_part_of_it_are_not_mined(
    collection: Collection, encoder: Encoder
) -> None:
    pair = collection.pairs("train")[0]
    collection.passages["whole"] = f"Note: {pair.positive.upper()}! And then, again."
    collection.passages["part"] = " ".join(pair.positive.split()[:6]) + "."
    collection.passages["asked"] = pair.query.title() + "?"
    mined = mine(collection, [pair], encoder, MineConfig(last_rank=99, per_query=99, margin=99))
    assert not {"whole", "part", "asked"} & {n.doc_id for n in mined.negatives[pair.query_id]}
    assert mined.skipped["the text of a relevant passage or of the query"] >= 3


def test_a_passage_that_differs_by_a_sign_is_mined(collection: Collection, encoder: Encoder) -> None:
    pair = collection.pairs("train")[0]
    for doc_id in collection.relevant(pair.query_id):
        collection.passages[doc_id] = "close the socket when x < 0 in C++"
    collection.passages["sign"] = "close the socket when x > 0 in C#"
    pair = replace(pair, positive="close the socket when x < 0 in C++")
    mined = mine(collection, [pair], encoder, MineConfig(last_rank=99, per_query=99, margin=99))
    assert "sign" in {n.doc_id for n in mined.negatives[pair.query_id]}


def test_a_source_that_finds_nothing_and_queries_without_negatives_are_said(
    collection: Collection, encoder: Encoder
) -> None:
    pairs = collection.pairs("train")
    foreign = [replace(pair, query="закрыть") for pair in pairs]
    mined = mine(collection, foreign, encoder, MineConfig(sources=("bm25",), margin=99))
    assert mined.notes[0].startswith(f"bm25 finds no passage for {len(pairs)} of {len(pairs)} queries")
    assert f"{len(pairs)} of {len(pairs)} queries got no mined negative" in mined.notes[1]
    assert mine(collection, pairs, encoder, MineConfig(margin=99)).notes == []


def test_bm25_finds_chinese_thai_and_names_with_signs() -> None:
    index = LexicalIndex(
        {
            "file": "先检查，然后关闭文件。",
            "lock": "先取得锁再启动线程。",
            "thai": "หลังจากปิดไฟล์แล้ว",
            "c": "Templates of C++",
            "sharp": "Generics of C#",
        }
    )
    hits = index.search(["怎样关闭文件", "ปิดไฟล์อย่างไร", "C++", "锁"], 5)
    assert [found[0][0] for found in hits] == ["file", "thai", "c", "lock"]
    assert len(hits[2]) == 1


def test_one_pass_over_the_corpus_finds_what_an_index_finds(monkeypatch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    monkeypatch.setattr("syneg.retrieval.indexes._BLOCK", 7)
    passages = {f"d{i}": f"{action} the {thing} {i}" for i, (thing, action) in enumerate(product(THINGS[:5], ACTIONS))}
    queries = encoder.encode(["close a socket", "flush the queue", "merge"], "query")
    index = encoder.index(passages)
    assert encoder.index(passages) is index
    for depth in (1, 5, 60):
        expected, found = index.search(queries, depth), search_corpus(queries, passages, encoder, depth)
        assert [[d for d, _ in hits] for hits in found] == [[d for d, _ in hits] for hits in expected]
        assert [s for hits in found for _, s in hits] == pytest.approx([s for hits in expected for _, s in hits])


def test_mining_asks_for_embeddings_a_few_times_however_many_queries_there_are(
    collection: Collection, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, encode = [], encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda *args: calls.append(len(args[0])) or encode(*args))
    mine(collection, collection.pairs("train"), encoder, MineConfig())
    assert len(calls) == 2  # queries and the corpus, whose index gives those of the passages near the queries
    del calls[:]
    mine(collection, collection.pairs("train"), encoder, MineConfig(sources=("bm25",)))
    assert len(calls) == 1
    index = encoder.index(collection.passages)
    encoder.index(dict(collection.passages))
    assert encoder.vectors_held(collection.passages) is None  # it holds those of another corpus
    assert DenseIndex.of(collection.passages, encoder, "SQ8").holds_vectors is False
    ids = list(collection.passages)[7:2:-2]
    texts = [collection.passages[doc_id] for doc_id in ids]
    assert np.array_equal(index.vectors(ids), encode(texts, "passage"))


@pytest.mark.parametrize("block", [7, 99, 1000])
def test_an_index_in_memory_searches_as_faiss_does(block: int) -> None:
    import faiss

    vectors = np.random.default_rng(0).normal(size=(99, 16)).astype(np.float32)
    plain = faiss.IndexFlatIP(16)
    plain.add(vectors)
    names = [f"d{i}" for i in range(99)]
    index = DenseIndex(names, (vectors[start : start + block] for start in range(0, 99, block)))
    for count in (1, 40):  # faiss computes few queries in another way
        scores, places = plain.search(vectors[:count], 20)
        expected = [
            [(names[p], float(s)) for p, s in zip(*row, strict=True)] for row in zip(places, scores, strict=True)
        ]
        assert index.search(vectors[:count], 20) == expected


def test_every_search_takes_the_index_of_the_settings(tmp_path: Path, beir: Path, encoder_path: str) -> None:
    import faiss

    overrides = [f"collection.dataset={beir}", f"encoder.model={encoder_path}", "mine.index=SQ8"]
    workspace = Workspace(RunFolder(tmp_path), load_config(None, overrides), Progress(quiet=True))
    mined = workspace.encoder.index(workspace.collection.passages)
    assert isinstance(mined._index, faiss.IndexScalarQuantizer)
    assert mined.search(workspace.encoder.encode(["close a socket"], "query"), 3)
    # whoever searches the corpus gets this one
    dev_set(workspace.encoder, workspace.collection, 10, 0)
    assert workspace.encoder.index(workspace.collection.passages) is mined


def test_bm25_knows_single_letters_by_capitals_in_passages_and_in_any_case_in_queries() -> None:
    passages = {
        "r": "sort a list with R", "c": "sort a list with C++", "f": "the force f on a wing of r",
        "d": "vitamin D in milk", "nfd": "pre\u0301e a\u0300 pied", "x": "list of x y z u v w",
    }  # fmt: skip
    index = LexicalIndex(passages)
    for query, doc_id in (("what is r", "r"), ("R", "r"), ("c++", "c"), ("d", "d"), ("pr\u00e9e", "nfd")):
        assert [found for found, _ in index.search([query], 3)[0]] == [doc_id]
    assert index.search(["f"], 3) == [[]]
    # six signs of a formula do not make a passage a long one
    assert index.search(["list"], 1)[0][0][0] == "x"


def test_written_texts_find_real_passages(beir: Path, encoder_path: str) -> None:
    collection = load_collection(CollectionConfig(dataset=str(beir)))
    encoder = Encoder.load(EncoderConfig(model=encoder_path, precision="fp32"))
    pairs = collection.pairs("train")[:4]
    _, thing = pairs[0].query.split(" a ")
    others = [d for d, text in collection.passages.items() if f"the {thing} " in text and d != pairs[0].doc_id]
    texts = {pairs[0].query_id: [f"the {thing} it is {thing}", pairs[0].positive], pairs[1].query_id: []}
    config = MineConfig(margin=10, per_query=20)
    near = nearest(collection, encoder, pairs, texts)
    assert {*near} == {pairs[0].query_id}
    (found,) = ground(collection, encoder, pairs, near, {}, config).values()
    assert {n.source for n in found} == {"grounded"} and pairs[0].doc_id not in {n.doc_id for n in found}
    assert len({n.doc_id for n in found[:14]} & set(others)) >= 5  # of 7 passages on the same thing
    first = found[0].doc_id
    limit = found[0].score / encoder_score(encoder, pairs[0]) - 0.01
    (under,) = ground(collection, encoder, pairs, near, {}, MineConfig(margin=limit, per_query=20)).values()
    assert first not in {n.doc_id for n in under}
    graded = {pairs[0].query_id: {first: 1, found[1].doc_id: 2}}
    (read,) = ground(collection, encoder, pairs, near, graded, MineConfig(margin=limit, per_query=20)).values()
    assert first in {n.doc_id for n in read} and found[1].doc_id not in {n.doc_id for n in read}


def encoder_score(encoder: Encoder, pair: Pair) -> float:
    return float(encoder.encode([pair.positive], "passage")[0] @ encoder.encode([pair.query], "query")[0])


def test_a_negative_names_the_source_and_the_rank_it_was_taken_from(collection: Collection, encoder: Encoder) -> None:
    pairs = collection.pairs("train")[:5]
    both = mine(collection, pairs, encoder, MineConfig(margin=99)).negatives
    for source in ("dense", "bm25"):
        alone = mine(collection, pairs, encoder, MineConfig(margin=99, sources=(source,), per_query=50)).negatives
        for query_id, found in both.items():
            ranks = {n.doc_id: n.rank for n in alone[query_id]}
            named = {n.doc_id: n.rank for n in found if n.source == source}
            assert named and named.items() <= ranks.items()
