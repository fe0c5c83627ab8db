"""What `init` sees in files, and that its settings are read back and fit the data."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_remarks import TEXTS

from syneg.cli.main import cli
from syneg.core.errors import ConfigError, DataError
from syneg.core.settings import load_config
from syneg.run.suggest import suggestion


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def csv(name: str, header: str, rows: list[str]) -> str:
    Path(name).write_text("\n".join([header, *rows]) + "\n")
    return name


def pairs(count: int = 40, header: str = "question,answer,url") -> str:
    return csv(
        "pairs.csv",
        header,
        [f"how is pump number {i} primed,{TEXTS['English']} {i},http://x/{i}" for i in range(count)],
    )


def corpus(text: str = TEXTS["English"], count: int = 60) -> str:
    Path("docs.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{i}", "text": f"{text} {i}"}) + "\n" for i in range(count))
    )
    return "docs.jsonl"


def read(text: str) -> dict[str, dict[str, object]]:
    Path("out.toml").write_text(text)
    load_config(Path("out.toml"))
    return tomllib.loads(text)


def test_pairs_and_corpus_are_told_apart_in_any_order() -> None:
    one, two = pairs(), corpus()
    settings = read(suggestion([one, two]))
    assert settings == read(suggestion([two, one]))
    assert settings["collection"] == {
        "dataset": "pairs.csv", "corpus": "docs.jsonl", "columns": "query=question,positive=answer", "task": "question answering",
    }  # fmt: skip
    assert settings["generate"]["pairs"] == 0
    assert settings["train"] == {"epochs": 4.0}


def test_what_was_seen_is_said() -> None:
    text = suggestion([pairs(), corpus()])
    assert "# Seen: 60 passages (English, median 23 words, 1 in 20 over 23), 40 queries with 40 positives." in text
    assert "# Splits: train 24, dev 6, test 10." in text
    assert "# test has 10 queries: it cannot show a difference under about 0.18 nDCG@10." in text
    assert "# columns of pairs.csv not used: url" in text
    assert "# So the arms are trained in 5 folds, and every query is tested once" in text


def test_large_sets_start_with_some_pairs_and_one_seed() -> None:
    settings = read(suggestion([pairs(4000)]))
    assert settings["generate"]["pairs"] == 40
    assert "train" not in settings
    assert "folds" not in Path("out.toml").read_text()


def test_another_language_and_long_passages_choose_the_encoder() -> None:
    assert read(suggestion([pairs(), corpus()]))["encoder"]["model"] == "local/minilm"
    german = suggestion([corpus(TEXTS["German"])])
    assert read(german)["encoder"]["model"] == "intfloat/multilingual-e5-small"
    assert "over 180 words, which local/minilm cuts" in suggestion([corpus(" ".join([TEXTS["English"]] * 12))])


def test_a_corpus_alone_gets_written_queries_like_those_given() -> None:
    settings = read(suggestion([corpus()]))
    assert settings["collection"] == {"corpus": "docs.jsonl"}
    assert settings["queries"] == {"passages": 60}
    asked = csv("asked.csv", "query", ["prime pump", "valve open"])
    settings = read(suggestion([corpus(), asked]))
    assert settings["queries"] == {"passages": 60, "examples": "asked.csv"}
    assert load_config(Path("out.toml")).writes_queries


def test_a_folder_is_a_data_set(beir: Path) -> None:
    assert read(suggestion([str(beir)]))["collection"]["dataset"] == str(beir)


def test_files_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(DataError, match="are both passages"):
        Path("more.jsonl").write_text('{"text": "one two"}\n')
        suggestion([corpus(), "more.jsonl"])
    with pytest.raises(DataError, match="a file of queries does not say which passages are searched"):
        suggestion([csv("asked.csv", "query", ["prime pump"])])
    with pytest.raises(
        DataError, match=r"no column 'query' and 'positive'; the columns are 'a', 'b'.*name them: --columns"
    ):
        suggestion([csv("odd.csv", "a,b", ["1,2"])])
    with pytest.raises(DataError, match="no such file or folder"):
        suggestion(["nosuch.csv"])


@pytest.mark.parametrize("files", [["pairs.csv"], ["pairs.csv", "docs.jsonl"]], ids=len)
def test_a_column_that_no_file_has_is_named(files: list[str]) -> None:
    """Without it the pairs look like passages."""
    pairs(), corpus()
    given = load_config(None, ["collection.columns=query=questoin"]).collection
    with pytest.raises(ConfigError, match=r"no table has the column 'questoin' \(query\); did you mean 'question'\?"):
        suggestion(files, given)


def test_the_command_writes_settings_once() -> None:
    files = [pairs(), corpus()]
    said = CliRunner().invoke(cli, ["init", *files])
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("Seen: 60 passages (English")
    assert "settings: config.toml; run them with: syneg-dspy run --config config.toml" in said.stdout
    with pytest.raises(ConfigError, match="'config.toml' is there already.*--out"):
        CliRunner().invoke(cli, ["init", *files], catch_exceptions=False)


def test_names_of_columns_and_an_encoding_are_taken_and_written_down() -> None:
    rows = [f"how is pump number {i} primed?;{TEXTS['German']} café {i}" for i in range(40)]
    Path("odd.csv").write_text("\n".join(["Frage;Antwort", *rows]) + "\n", encoding="cp1252")
    given = ["--columns", "query=Frage,positive=Antwort", "--set", "collection.encoding=cp1252"]
    said = CliRunner().invoke(cli, ["init", "odd.csv", *given])
    assert said.exit_code == 0, said.output
    assert "40 queries with 40 positives" in said.stdout
    assert tomllib.loads(Path("config.toml").read_text())["collection"] == {
        "dataset": "odd.csv", "columns": "query=Frage,positive=Antwort", "encoding": "cp1252", "task": "question answering",
    }  # fmt: skip
    assert shlex.join(given) in Path("config.toml").read_text().splitlines()[0]


def test_a_corpus_alone_is_read_with_the_settings_given() -> None:
    csv("odd.csv", "Absatz", [f"{TEXTS['English']} {i}" for i in range(60)])
    said = CliRunner().invoke(cli, ["init", "odd.csv", "--columns", "text=Absatz"])
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("Seen: 60 passages (English")
    assert load_config(Path("config.toml")).collection.columns == "text=Absatz"


def test_init_takes_settings_of_the_data_only() -> None:
    with pytest.raises(ConfigError, match=r"'train.epochs' is no setting of the data.*--set collection"):
        CliRunner().invoke(cli, ["init", pairs(), "--set", "train.epochs=2"], catch_exceptions=False)
    assert not Path("config.toml").exists()


@pytest.mark.parametrize("second", ["nosuch.jsonl", "./nosuch", "nosuch.txt"])
def test_a_second_file_that_is_missing_is_named(second: str) -> None:
    with pytest.raises(DataError, match=f"no such file or folder: '{second}'"):
        suggestion([pairs(), second])
