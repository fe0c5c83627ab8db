"""What a run gives to other trainers, read back by their own readers where they are installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM

from syneg.core.config import CollectionConfig
from syneg.core.errors import ConfigError, DataError
from syneg.core.progress import Progress
from syneg.core.records import Instance, Pair
from syneg.core.settings import load_config
from syneg.core.storage import read_rows, write_json, write_rows
from syneg.data.sources import open_reader
from syneg.run.export import export, read_trained, trained_rows
from syneg.run.folder import RunFolder
from syneg.run.formats import FORMATS, Origins, lines_of
from syneg.run.manifest import Manifest
from syneg.run.pipeline import Run
from syneg.verdict.records import ArmResult, Verdict

S, P = "synthetic", "padding"
ONE = Pair("q1", "close a socket", "d1", "Call close().")
TWO = Pair("q2", "open\ta file", "d2", "Call “open”.\nThen read.")
EPOCHS = [
    [Instance(ONE, ("Call shutdown().", "Call open()."), (S, "dense"), (0.5, 1.0), (None, "d2")),
     Instance(TWO, ("Call stat().", ""), ("bm25", P), (1.0, 0.0), ("d9", None))],
    [Instance(ONE, ("Call shutdown().", "Call bind()."), (S, "dense"), (0.5, 1.0), (None, "d7")),
     Instance(TWO, ("Call stat().", ""), ("bm25", P), (1.0, 0.0), ("d9", None))],
]  # fmt: skip


def test_arms_that_are_equal_on_dev_are_settled_as_in_the_verdict(folder: RunFolder) -> None:
    arms = {"base": arm(), "hybrid": arm(s0=0.7), "mined": arm(s0=0.7)}
    write_json(folder.verdict, Verdict("toy", "f", "ndcg@10", 0.05, {"test": 60}, arms, "mined", ()).to_json())
    assert export(folder, "sentence-transformers").arm == "mined"


def arm(**dev_by_seed: float) -> ArmResult:
    scores = {int(seed.removeprefix("s")): value for seed, value in dev_by_seed.items()}
    return ArmResult({"ndcg@10": max(scores.values(), default=0.5)}, {}, {}, dev_by_seed=scores)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A finished run, as far as an export reads it."""
    made = RunFolder(tmp_path / "run")
    arms = {"base": arm(), "mined": arm(s0=0.6), "hybrid": arm(s0=0.7, s1=0.8)}
    told = Verdict("toy", "f", "ndcg@10", 0.05, {"test": 60}, arms, "hybrid", ())
    write_json(made.verdict, told.to_json())
    made.config.write_text("")
    for name, epochs in (("hybrid-0", EPOCHS[:1]), ("hybrid-1", EPOCHS), ("mined-0", EPOCHS[1:])):
        write_rows(made.rows(name), trained_rows(epochs))
    write_rows(
        made.mined, [{"query_id": "q1", "doc_id": "d2", "text": "", "source": "dense", "rank": 4, "score": 0.41}]
    )
    write_rows(made.negatives(), [
        {"query_id": "q1", "text": "Call shutdown().", "accepted": True, "program": "reflective", "lm": "openai/x",
         "attributes": {"kind": "near"}, "calls": ["c1"], "parent_doc_id": None, "figures": {"margin": 0.7}},
    ])  # fmt: skip
    return made


def rows(path: Path) -> list[dict[str, Any]]:
    return list(read_rows(path))


def test_rows_on_disk_are_those_that_were_trained_on(folder: RunFolder) -> None:
    assert read_trained(folder.rows("hybrid-1")) == [row for epoch in EPOCHS for row in epoch]
    with pytest.raises(DataError, match="no training rows on disk.*syneg-dspy train"):
        read_trained(folder.rows("mined-7"))


@pytest.mark.parametrize("name", ["rows/hybrid-1.jsonl", "mined.jsonl", "mined-dense.jsonl", "negatives.jsonl"])
def test_rows_that_are_not_as_they_were_written_are_not_exported(folder: RunFolder, name: str) -> None:
    write_rows(folder / "mined-dense.jsonl", read_rows(folder.mined))
    stages = {
        "rows hybrid-1": folder.rows("hybrid-1"), "mine": folder.mined, "mined-dense": folder / "mined-dense.jsonl",
        "negatives": folder.negatives(),
    }  # fmt: skip
    for stage, path in stages.items():
        Manifest(folder).done(stage, "key", path)
    assert export(folder, "sentence-transformers").rows == 3
    (folder / name).write_bytes(b"".join((folder / name).read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(
        DataError, match=rf"not as it was written \(.*{name}\); run `syneg-dspy run --run FOLDER` again"
    ):
        export(folder, "sentence-transformers")


def test_the_best_arm_and_seed_are_taken_and_rows_are_not_repeated(folder: RunFolder) -> None:
    done = export(folder, "sentence-transformers")
    assert (done.arm, done.seed, done.rows) == ("hybrid", 1, 3)
    assert done.notes == ("1 of 3 rows has fewer than 2 negatives and repeats its own",)
    first, second, third = rows(done.path / "train.jsonl")
    assert list(first) == ["anchor", "positive", "negative_1", "negative_2"]  # the trainer goes by the order
    assert list(first.values()) == ["close a socket", "Call close().", "Call shutdown().", "Call open()."]
    assert list(second.values()) == [TWO.query, TWO.positive, "Call stat().", "Call stat()."]
    assert third["negative_2"] == "Call bind()."
    assert export(folder, "sentence-transformers", seed=0).rows == 2
    assert export(folder, "sentence-transformers", arm="mined").arm == "mined"


def test_provenance_names_passage_program_lm_and_gates(folder: RunFolder) -> None:
    done = export(folder, "sentence-transformers")
    line = rows(done.path / "provenance.ndjson")[0]
    assert (line["row"], line["query_id"], line["positives"]) == (0, "q1", [{"id": "d1"}])
    written, mined = line["negatives"]
    assert (written["source"], written["weight"], written["program"], written["lm"]) == (
        S,
        0.5,
        "reflective",
        "openai/x",
    )
    assert (written["gates"], written["attributes"]) == ({"margin": 0.7}, {"kind": "near"})
    assert mined == {"id": "d2", "source": "dense", "weight": 1.0, "rank": 4, "score": 0.41}


def test_where_no_arm_beat_the_base_the_best_of_the_others_is_taken_and_said(folder: RunFolder) -> None:
    verdict = json.loads(folder.verdict.read_text())
    write_json(folder.verdict, {**verdict, "best": "base"})
    done = export(folder, "pylate")
    assert done.arm == "hybrid"
    assert "no arm beat the untuned encoder on dev; these are the rows of hybrid" in done.notes[0]


def test_pylate_gets_one_negative_a_row(folder: RunFolder) -> None:
    done = export(folder, "pylate")
    assert rows(done.path / "train.jsonl") == [
        {"query": q, "positive": p, "negative": n}
        for q, p, n in (
            (ONE.query, ONE.positive, "Call shutdown()."), (ONE.query, ONE.positive, "Call open()."),
            (TWO.query, TWO.positive, "Call stat()."), (ONE.query, ONE.positive, "Call bind()."),
        )
    ]  # fmt: skip
    assert len(rows(done.path / "provenance.ndjson")) == done.rows == 4


def test_flagembedding_gets_a_row_a_query_and_finds_no_other_json(folder: RunFolder) -> None:
    done = export(folder, "flagembedding")
    read = rows(done.path / "train.jsonl")
    assert read == [
        {"query": ONE.query, "pos": [ONE.positive], "neg": ["Call shutdown().", "Call open().", "Call bind()."]},
        {"query": TWO.query, "pos": [TWO.positive], "neg": ["Call stat()."]},
    ]
    # its reader takes every .json and .jsonl of a folder
    assert [p.name for p in done.path.iterdir() if p.name.endswith((".json", ".jsonl"))] == ["train.jsonl"]
    with pytest.raises(ConfigError, match="flagembedding reads no Parquet"):
        export(folder, "flagembedding", parquet=True)


def test_tevatron_gets_passages_with_ids(folder: RunFolder) -> None:
    row = rows(export(folder, "tevatron").path / "train.jsonl")[0]
    assert (row["query_id"], row["query"]) == ("q1", ONE.query)
    assert row["positive_passages"] == [{"docid": "d1", "title": "", "text": ONE.positive}]
    assert [passage["text"] for passage in row["negative_passages"]] == [
        "Call shutdown().",
        "Call open().",
        "Call bind().",
    ]
    assert len({passage["docid"] for passage in row["negative_passages"]}) == 3


def test_a_beir_folder_is_read_by_our_own_reader(folder: RunFolder) -> None:
    done = export(folder, "beir")
    reader = open_reader(CollectionConfig(dataset=str(done.path)))
    passages, queries, qrels = dict(reader.passages()), dict(reader.queries()), list(reader.qrels())
    assert queries == {"q1": ONE.query, "q2": "open\ta file"}
    grades = {(row.query_id, passages[row.doc_id]): row.relevance for row in qrels}
    assert grades["q1", ONE.positive] == 1
    assert grades["q1", "Call shutdown()."] == 0
    assert {row.split for row in qrels} == {"train"}
    assert not reader.log.problems


def test_a_beir_folder_joins_by_ids_that_hold_a_carriage_return() -> None:
    row = Instance(Pair("q\r1", "close a file", "d\r1", "close() ends it."), ("x",), ("dense",), (1.0,), ("d\r5",))
    lines, _ = lines_of([row], "queries", Origins({}, {}))
    tables = FORMATS["beir"].tables(lines)
    passages = {str(row["_id"]) for row in tables["corpus.jsonl"]}
    grades = [(row["query-id"], row["corpus-id"]) for row in tables["qrels/train.tsv"]]
    assert grades == [("q%0D1", "d%0D1"), ("q%0D1", "d%0D5")]
    assert passages == {"d%0D1", "d%0D5"} and [row["_id"] for row in tables["queries.jsonl"]] == ["q%0D1"]


def test_several_positives_of_a_query_stand_together() -> None:
    other = Instance(Pair("q1", ONE.query, "", "close() ends it."), ("x",), ("dense",), (1.0,), ("d5",))
    (line,), notes = lines_of([EPOCHS[0][0], other], "queries", Origins({}, {}))
    assert [passage.text for passage in line.positives] == [ONE.positive, "close() ends it."]
    assert all(passage.id for passage in line.positives)
    assert notes == []


@pytest.mark.parametrize("parquet", [False, True])
def test_datasets_reads_the_folder_by_its_card(folder: RunFolder, tmp_path: Path, parquet: bool) -> None:
    from datasets import load_dataset

    done = export(folder, "hf-dataset", parquet=parquet)
    read = load_dataset(str(done.path), cache_dir=str(tmp_path / "cache"))["train"]
    assert read.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    assert list(read["anchor"]) == [ONE.query, TWO.query, ONE.query]
    assert list(read["positive"])[1] == TWO.positive
    export(folder, "hf-dataset", parquet=not parquet)  # no file of the first is left beside the second
    assert len(list(done.path.glob("train.*"))) == 1


@pytest.mark.parametrize(
    ("to", "parquet"),
    [(name, parquet) for name, kind in FORMATS.items() for parquet in (False, True)
     if name != "beir" and not kind.card and kind.parquet >= parquet],
)  # fmt: skip
def test_datasets_takes_no_provenance_for_rows(folder: RunFolder, tmp_path: Path, to: str, parquet: bool) -> None:
    from datasets import load_dataset

    done = export(folder, to, parquet=parquet)
    read = load_dataset(str(done.path), cache_dir=str(tmp_path / "cache"))
    assert {split: data.num_rows for split, data in read.items()} == {"train": done.rows}
    assert "provenance" not in str(read)


def test_the_command_offers_every_format() -> None:
    from syneg.cli.folders import export as command

    (option,) = (option for option in command.params if option.name == "to")
    assert set(option.type.choices) == set(FORMATS)  # type: ignore[attr-defined]


def test_files_of_others_are_left_alone(folder: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=r"other files, such as thesis.tex .*--out"):
        export(folder, "beir", out)
    with pytest.raises(ConfigError, match=r"unknown format 'tevatro'; did you mean 'tevatron'"):
        export(folder, "tevatro")
    with pytest.raises(ConfigError, match="no arm 'hybird'.*did you mean 'hybrid'"):
        export(folder, "beir", arm="hybird")
    with pytest.raises(ConfigError, match="not trained with seed 7"):
        export(folder, "beir", seed=7)
    with pytest.raises(DataError, match="no verdict in this run folder"):
        export(RunFolder(tmp_path), "beir")


@pytest.mark.parametrize(
    ("to", "name"), [("beir", "corpus.jsonl"), ("beir", "qrels/train.tsv"), ("flagembedding", "train.jsonl"),
                     ("hf-dataset", "README.md"), ("pylate", "queries.parquet")],
)  # fmt: skip
def test_a_data_set_of_the_user_is_left_as_it_is(to: str, name: str, folder: RunFolder, tmp_path: Path) -> None:
    """Its files have the names that an export gives, but no provenance beside them."""
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("of the user")
    with pytest.raises(DataError, match=rf"other files, such as {name.split('/')[0]} .*mine\); give another --out"):
        export(folder, to, tmp_path / "mine")
    assert mine.read_text() == "of the user"


def test_an_export_takes_the_place_of_an_earlier_one(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export(folder, "beir", out)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def killed(*args: object, **more: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("syneg.run.export.write_text", killed)
        export(folder, "pylate", out)
    assert export(folder, "flagembedding", out).rows == 2
    assert sorted(path.name for path in out.iterdir()) == ["provenance.ndjson", "qrels", "train.jsonl"]
    (out / "qrels" / "test.tsv").write_text("of the user")
    with pytest.raises(DataError, match=r"other files, such as qrels/test.tsv"):
        export(folder, "beir", out)


def test_sentence_transformers_trains_on_the_rows_of_a_real_run(
    tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM], encoder_path: str
) -> None:
    from datasets import load_dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    folder = RunFolder(tmp_path / "run")
    config = load_config(None, settings(fake_lm().url, **{"train.evals": 1}))
    Run(folder.path, config, Progress(quiet=True)).until("verdict")
    done = export(folder, "sentence-transformers", arm="hybrid")
    data = load_dataset("json", data_files=str(done.path / "train.jsonl"), split="train", cache_dir=str(tmp_path / "c"))
    trained = {row.pair.query_id for row in read_trained(folder.rows("hybrid-0"))}
    assert trained <= {f"q{number}" for number in range(96)}
    assert len(data) == done.rows >= len(trained)
    sources = [n["source"] for line in read_rows(done.path / "provenance.ndjson") for n in line["negatives"]]
    assert 0 < sources.count(S) < len(sources)
    model = SentenceTransformer(encoder_path, device="cpu")
    before = model[0].embedding.weight.detach().clone()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=3, per_device_train_batch_size=4, report_to="none", use_cpu=True,
        learning_rate=0.1, disable_tqdm=True, save_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data, loss=MultipleNegativesRankingLoss(model)
    )
    trainer.train()
    assert trainer.state.global_step == 3
    assert not (model[0].embedding.weight == before).all()
