"""A large corpus stays on disk: texts, embeddings and counts of words, with the results of a small one."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from zlib import crc32

import bm25s
import faiss
import numpy as np
import pytest

from syneg.core.config import CollectionConfig
from syneg.data import texts
from syneg.data.cells import made_id
from syneg.data.collection import Collection, load_collection
from syneg.data.corpus_profile import CorpusProfile
from syneg.retrieval import indexes
from syneg.retrieval.bm25 import Bm25, TermCounts
from syneg.retrieval.indexes import DenseIndex, LexicalIndex, search_corpus

WORDS = [f"w{i:x}" for i in range(3000)]


def folder_of(folder: Path, passages: int, queries: int = 40) -> Path:
    """A BEIR folder with passages of 60 words; the text of each query is in one of them."""
    draw = np.random.default_rng(0)
    (folder / "qrels").mkdir(parents=True)
    with (folder / "corpus.jsonl").open("w") as file:
        for row in range(passages):
            text = " ".join(WORDS[i] for i in (3000 * draw.random(60) ** 3).astype(int))
            file.write(json.dumps({"_id": f"d{row}", "text": f"{text} é n{row}"}) + "\n")
    asked = [json.dumps({"_id": f"q{row}", "text": f"what of n{row}"}) + "\n" for row in range(queries)]
    (folder / "queries.jsonl").write_text("".join(asked))
    rows = [f"q{row}\td{row}\t1\n" for row in range(queries)]
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return folder


def pairs_of(folder: Path, passages: int) -> CollectionConfig:
    """A file of 40 pairs and a corpus with titles: a positive is a passage, one without its title, a part, or more."""
    draw = np.random.default_rng(0)
    folder.mkdir()
    rows = [
        " ".join(WORDS[i] for i in (3000 * draw.random(60) ** 3).astype(int)) + f" é n{row}" for row in range(passages)
    ]
    with (folder / "corpus.jsonl").open("w") as file:
        for row, text in enumerate(rows):
            file.write(
                json.dumps({"_id": f"d{row}", "title": f"Title of {row}" if row % 3 else "", "text": text}) + "\n"
            )
        file.writelines(
            json.dumps({"_id": f"d{row}", "title": "Another", "text": "one"}) + "\n" for row in (25, passages - 1)
        )
    asked = [{"query": f"what of n{row}", "positive": text} for row, text in enumerate(rows[:40])]
    for row in asked[:10]:
        row["positive"] = " ".join(row["positive"].split()[5:40])
    for row in asked[10:20]:
        row["positive"] += " and more"
    asked[20]["negative"], asked[21]["positive"] = rows[60], f"Title of 61 {rows[61].upper()}"
    asked[22]["positive"] = "nowhere in the corpus"
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return CollectionConfig(dataset=str(folder / "pairs.jsonl"), corpus=str(folder / "corpus.jsonl"))


def read(folder: Path) -> Collection:
    return load_collection(CollectionConfig(dataset=str(folder)))


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYNEG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(texts, "IN_MEMORY", 5_000)
    monkeypatch.setattr(indexes, "EXACT", 0)
    monkeypatch.setattr(indexes, "_BLOCK", 70)
    monkeypatch.setattr(indexes, "_COUNTED", 70)


def test_a_large_corpus_is_read_into_a_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = folder_of(tmp_path / "made", 200)
    small = read(folder)
    request.getfixturevalue("on_disk")
    large = read(folder)
    assert isinstance(small.passages, dict) and isinstance(large.passages, texts.Texts)
    assert large.passages == small.passages and list(large.passages) == list(small.passages)
    assert large.fingerprint == small.fingerprint and large.pairs("train") == small.pairs("train")
    assert "d199" in large.passages and "d200" not in large.passages and large.passages.get("d200") is None
    with pytest.raises(KeyError, match="d200"):
        large.passages["d200"]
    again = pickle.loads(pickle.dumps(large.passages))  # as for a worker on another machine
    assert isinstance(again, texts.Texts) and again == small.passages
    assert not list((tmp_path / "home" / "scratch").iterdir())  # no name, so nothing is left after a crash


@pytest.mark.usefixtures("on_disk")
def test_an_id_with_two_texts_is_found_in_the_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "made", 200)
    with (folder / "corpus.jsonl").open("a") as file:
        file.writelines(json.dumps({"_id": name, "text": "another text"}) + "\n" for name in ("d1", "d198", "new"))
        file.write((folder / "corpus.jsonl").read_text().splitlines(keepends=True)[150])  # the same again is no problem
    found = read(folder)
    said = "passage id '{0}' occurs twice with different texts"
    assert found.problems == tuple(f"passages of made:{key} {said.format(key)}" for key in ("d1", "d198"))
    assert (len(found.passages), found.passages["new"], found.passages["d0"][:1]) == (201, "another text", "w")


def test_pairs_with_a_large_corpus_are_those_with_a_small_one(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    config = pairs_of(tmp_path / "made", 200)
    small = load_collection(config)
    request.getfixturevalue("on_disk")
    large = load_collection(config)
    assert isinstance(small.passages, dict) and isinstance(large.passages, texts.Texts)
    assert (large.fingerprint, large.notes, large.problems) == (small.fingerprint, small.notes, small.problems)
    assert [problem.split(" ", 1)[1] for problem in small.problems] == [
        f"passage id 'd{row}' occurs twice with different texts" for row in (25, 199)
    ]
    assert any(note.startswith("21 of 40 positives are no passage of the corpus; 10 are") for note in small.notes)
    assert small.relevant(made_id("q", "what of n0")) == {"d0"}
    assert list(small.passages)[-1].startswith("p-") and len(small.passages) == 211


@pytest.mark.usefixtures("on_disk")
def test_pairs_hold_no_text_of_a_large_corpus(tmp_path: Path) -> None:
    peaks = []
    for size in (1_000, 5_000):
        config = pairs_of(tmp_path / str(size), size)
        tracemalloc.start()
        load_collection(config)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    each = (peaks[1] - peaks[0]) / 4_000
    assert each < 400, f"{each:.0f} bytes a passage of some 310 characters"


def test_a_sample_is_that_of_the_list_of_all_texts() -> None:
    passages = {f"d{i}": f"text {i}" for i in range(50)}
    expected = random.Random("7:dry").sample(list(passages.items()), 8)
    assert texts.sample(passages, 8, random.Random("7:dry")) == expected
    assert len(texts.sample(passages, 80, random.Random(0))) == 50


def test_a_profile_takes_different_passages_at_even_steps() -> None:
    passages = [f"the passage {i // 2} tells about pumps, valves and number {i // 2}" for i in range(9000)]
    assert CorpusProfile.of(passages) == CorpusProfile.of(passages[::2][::2])


@pytest.mark.usefixtures("on_disk")
def test_counted_words_score_as_in_bm25s() -> None:
    draw = np.random.default_rng(1)
    passages = [[WORDS[i] for i in (800 * draw.random(draw.integers(0, 40)) ** 3).astype(int)] for _ in range(300)]
    own = bm25s.BM25()
    words: dict[str, int] = {}
    own.index(([[words.setdefault(w, len(words)) for w in row] for row in passages], words), show_progress=False)
    counts, ours = TermCounts(), Bm25()
    for start in range(0, 300, 70):
        counts.add(passages[start : start + 70])
    ours.index(counts, show_progress=False)
    for word in words:
        if word:  # bm25s adds the empty one
            assert np.array_equal(ours.get_scores([word]), own.get_scores([word]))


def test_passages_without_words_are_not_found(tmp_path: Path) -> None:
    index = LexicalIndex({"d1": "…", "d2": "the"})
    assert index.search(["the", "pump", ""], 2) == [[], [], []]


class Drawn:
    """Gives random vectors, others for another first text."""

    def encode(self, texts: list[str], role: str, progress: object = None) -> np.ndarray:
        vectors = np.random.default_rng(crc32(texts[0].encode())).standard_normal((len(texts), 384), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.usefixtures("on_disk")
def test_embeddings_on_disk_are_searched_as_in_memory() -> None:
    passages = {f"d{i}": f"text {i}" for i in range(500)}
    queries = Drawn().encode(["a", "b", "c"], "query")
    blocks = [list(passages.values())[start : start + 70] for start in range(0, 500, 70)]
    vectors = np.vstack([Drawn().encode(block, "passage") for block in blocks])
    held = faiss.index_factory(384, "SQfp16", faiss.METRIC_INNER_PRODUCT)
    held.add(vectors)
    scores, places = held.search(queries, 9)
    found = DenseIndex.of(passages, Drawn()).search(queries, 9)
    assert [[doc_id for doc_id, _ in hits] for hits in found] == [[f"d{p}" for p in row] for row in places]
    assert np.array([[score for _, score in hits] for hits in found]) == pytest.approx(scores, abs=1e-6)
    exact = search_corpus(queries, passages, Drawn(), 9)
    assert [[doc_id for doc_id, _ in hits] for hits in exact] == [[doc_id for doc_id, _ in hits] for hits in found]


MEASURED = """
import sys
import tracemalloc
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_large_corpora as made
from syneg.data import texts
from syneg.retrieval import indexes
texts.IN_MEMORY, indexes.EXACT, indexes._BLOCK, indexes._COUNTED = 0, 0, 2048, 2048
for folder in sys.argv[2:]:
    collection = made.read(Path(folder))
    collection.fingerprint
    made.CorpusProfile.of(collection.passages.values())
    dense = indexes.DenseIndex.of(collection.passages, made.Drawn())
    lexical = indexes.LexicalIndex(collection.passages)
    assert len(dense.search(made.Drawn().encode(["a"], "query"), 50)[0]) == 50
    assert len(lexical.search(["w1 w2"], 50)[0]) == 50
    del collection, dense, lexical
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory of a process is read from /proc")
def test_five_million_passages_would_fit_into_8_gb(tmp_path: Path) -> None:
    sizes = (5_000, 40_000)
    folders = [str(folder_of(tmp_path / str(size), size)) for size in sizes]
    command = [sys.executable, "-c", MEASURED, str(Path(__file__).parent), *folders]
    peaks = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    each = 1024 * (int(peaks[1]) - int(peaks[0])) / (sizes[1] - sizes[0])
    assert each < 7e9 / 5e6, f"{each:.0f} bytes a passage"  # 1 GB is left for torch and the encoder
