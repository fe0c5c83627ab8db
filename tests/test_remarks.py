"""What is said of a collection before a run: sizes, shared positives, copies, easy queries, languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.data.collection import Collection
from syneg.data.language import language_of
from syneg.data.remarks import encoder_remark, least_effect, remarks
from syneg.run.folder import RunFolder
from syneg.run.workspace import Workspace

TEXTS = {
    "English": "The pump is primed by opening the valve at the side and filling the housing with water until no air comes out.",
    "German": "Die Pumpe wird entlüftet, indem man das Ventil an der Seite öffnet und das Gehäuse mit Wasser füllt, bis keine Luft austritt.",
    "French": "La pompe est amorcée en ouvrant la vanne sur le côté et en remplissant le corps d'eau jusqu'à ce qu'il n'y ait plus d'air.",
    "Spanish": "La bomba se ceba abriendo la válvula lateral y llenando el cuerpo con agua hasta que no salga aire por el otro lado.",
    "Russian": "Насос заполняется через боковой клапан, пока из него не перестанет выходить воздух, и после этого клапан снова закрывают, как и было.",
    "Chinese": "打开侧面的阀门，向泵体内注水，直到没有空气排出为止。启动电机之前请重新关闭阀门。",
    "Japanese": "横のバルブを開けて、空気が出なくなるまでポンプに水を入れてください。モーターを始動する前に閉めます。",
    "": "def close(self): self.file.close() return None for x in range(10): print(x)",
}  # fmt: skip


def collection(train: int = 60, dev: int = 40, test: int = 60, **changes: object) -> Collection:
    """A collection that there is nothing to remark on: a positive and a query for each, with no word in common."""
    sizes = {"train": train, "dev": dev, "confirm": 0, "test": test}
    splits, passages, queries, qrels = {}, {}, {}, {}
    for split, size in sizes.items():
        splits[split] = tuple(f"{split}{i}" for i in range(size))
        for query_id in splits[split]:
            passages[f"p-{query_id}"] = f"the text of number {query_id}"
            queries[query_id] = f"which one of them about {query_id} x"
            qrels[query_id] = {f"p-{query_id}": 1}
    parts = {"passages": passages, "queries": queries, "qrels": qrels, "splits": splits, **changes}
    return Collection("toy", **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("language", TEXTS)
def test_languages_are_told_apart(language: str) -> None:
    assert language_of([TEXTS[language]]) == language
    assert language_of(["", " "]) == ""


def test_nothing_is_said_of_a_sound_collection() -> None:
    assert remarks(collection()) == []


def test_small_splits_are_said_with_the_smallest_effect_that_they_show() -> None:
    said = remarks(collection(test=9, dev=6))
    assert said == [
        "test has 9 queries: it cannot show a difference under about 0.19 nDCG@10.",
        "dev has 6 queries: the best arm on dev is largely a matter of chance.",
    ]
    assert remarks(collection(test=50, dev=30)) == []
    assert least_effect(100) == pytest.approx(2.8 * 0.2 / 10)


def test_a_corpus_that_every_ranking_holds_is_said() -> None:
    whole = collection()
    first = {"p-" + query_id: whole.passages[f"p-{query_id}"] for query_id in whole.splits["train"][:10]}
    qrels = {query_id: {next(iter(first)): 1.0} for query_id in whole.queries}
    said = remarks(collection(passages=first, qrels=qrels))
    assert said[0] == "The corpus has 10 passages, and a ranking of 10 holds them all: give a larger --corpus."
    assert not any("a ranking of 10" in line for line in remarks(collection(passages={**first, "p": "x"}, qrels=qrels)))


def test_positives_of_train_in_test_are_counted() -> None:
    data = collection(test=60)
    qrels = {
        q: ({"p-train0": 1} if q.startswith("test") and int(q[4:]) < 20 else docs) for q, docs in data.qrels.items()
    }
    (said,) = remarks(collection(qrels=qrels))
    assert said.startswith("20 of 60 test queries share a positive with train queries")


def test_copies_are_counted_whatever_their_punctuation() -> None:
    data = collection()
    copied = {**data.passages, "z": "The text, of NUMBER train0!"}
    (said,) = remarks(collection(passages=copied))
    assert said.startswith("1 of 161 passages repeats another one, such as 'z'")
    queries = {**data.queries, "train1": data.queries["train0"]}
    (said,) = remarks(collection(queries=queries))
    assert said.startswith("1 of 160 queries repeats another one")


def test_queries_that_are_passages_of_their_own_are_counted() -> None:
    data = collection()
    asked = list(data.queries)[:40]
    twins = {f"twin-{q}": data.queries[q].upper() for q in asked}
    (said,) = remarks(collection(passages={**data.passages, **twins}))
    assert said.startswith("40 of 160 queries are also a passage, such as 'twin-train0', that is not relevant to it")
    itself = {q: data.queries[q] for q in asked}  # in BEIR, a passage with the id of a query is the query
    assert remarks(collection(passages={**data.passages, **itself})) == []
    qrels = {q: docs | ({f"twin-{q}": 1} if q in asked else {}) for q, docs in data.qrels.items()}
    assert "also a passage" not in "".join(remarks(collection(passages={**data.passages, **twins}, qrels=qrels)))


def test_queries_that_stand_in_their_positive_are_counted() -> None:
    data = collection()
    queries = {q: ("text of number " + q if i < 40 else text) for i, (q, text) in enumerate(data.queries.items())}
    (said,) = remarks(collection(queries=queries))
    assert said.startswith("40 of 160 queries occur word for word in their positive")


def test_an_encoder_for_another_language_is_said() -> None:
    german = collection(passages={f"d{i}": TEXTS["German"] + f" {i}" for i in range(9)})
    for model in ("local/minilm", "BAAI/bge-base-en-v1.5", "sentence-transformers/all-MiniLM-L6-v2"):
        assert encoder_remark(german, model) == (
            f"The passages are German, and {model} was made for English: try --encoder intfloat/multilingual-e5-small."
        )
    for model in ("intfloat/multilingual-e5-small", "BAAI/bge-m3", "deepset/gbert-base"):
        assert encoder_remark(german, model) == ""
    assert encoder_remark(collection(), "local/minilm") == ""


def test_queries_in_another_language_than_the_passages_are_said() -> None:
    passages = {
        f"p-{split}{i}": f"{TEXTS['English']} {split} {i}" for split in ("train", "dev", "test") for i in range(60)
    }
    queries = dict.fromkeys(collection().queries, "")
    queries = {
        q: f"wie wird die Pumpe mit dem Ventil wieder in Betrieb genommen und was ist dabei {q}" for q in queries
    }
    assert remarks(collection(passages=passages, queries=queries)) == [
        "The queries are German and the passages English: the encoder needs both languages."
    ]


def test_a_run_begins_with_the_remarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(None, (), {"collection.dataset": "toy"})
    workspace = Workspace(RunFolder(tmp_path), config, Progress(), collection=collection(test=9))
    _ = workspace.collection
    assert "  test has 9 queries: it cannot show a difference under about 0.19 nDCG@10.\n" in capsys.readouterr().err
