from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syneg.core.config import Config
from syneg.core.errors import ConfigError
from syneg.core.settings import known_keys, load_config
from syneg.core.toml import to_toml
from syneg.data.tasks import TASKS, task_for


def test_unknown_keys_are_answered_with_the_nearest_and_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[train]\nepoch = 2\n[mixx]\nratio = 1\n")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert "did you mean 'train.epochs'" in str(error.value)
    assert "mixx" in str(error.value)


def test_settings_that_are_cut_at_a_line_end_are_refused(tmp_path: Path) -> None:
    own, config = tmp_path / "config.toml", load_config(None, ["mine.per_query=7", "collection.dataset=a.csv"])
    lines = to_toml(config).splitlines(keepends=True)
    for end in range(1, len(lines)):
        own.write_text("".join(lines[:end]))
        for sources in ((None, own), (own, None)):
            with pytest.raises(
                ConfigError, match=r"the settings of the run are cut \(.*config\.toml\); delete the file"
            ):
                load_config(sources[0], base=sources[1])
    own.write_text("".join(lines).rstrip() + "\n\n")
    assert load_config(None, base=own) == load_config(own) == config


def test_a_run_of_an_earlier_version_goes_on_without_what_that_version_ignored(tmp_path: Path) -> None:
    """Settings of written queries beside a data set, which are refused now."""
    old = load_config(None, ["collection.dataset=a.csv", "queries.passages=50", "queries.round_trip=7"])
    (tmp_path / "config.toml").write_text(to_toml(old))
    found = load_config(base=tmp_path / "config.toml")
    assert (found.queries.passages, found.queries.round_trip) == (Config().queries.passages, 7)
    assert load_config(None, ["queries.passages=9"], base=tmp_path / "config.toml").queries.passages == 9
    alone = load_config(None, ["collection.corpus=c.jsonl", "queries.passages=50"])
    (tmp_path / "config.toml").write_text(to_toml(alone))
    assert load_config(base=tmp_path / "config.toml") == alone


def test_a_run_does_not_go_on_with_the_defaults_where_its_settings_are_gone(tmp_path: Path) -> None:
    own = tmp_path / "config.toml"
    own.write_text("")
    with pytest.raises(ConfigError, match=r"the settings of the run are empty \(.*config\.toml\); delete the file"):
        load_config(base=own)
    own.write_text("seed = 3")
    assert load_config(base=own).seed == 3


def test_a_key_in_the_wrong_section_is_found() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'train\.temperature'|did you mean 'lm\.temperature'"):
        load_config(None, ["mine.temperature=1"])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs=0", "train.epochs = 0"),
        ("mix.ratio=abc", "mix.ratio = 'abc'"),
        ("mine.margin", "has no '='"),
        ("collection.test=0.9", "leave something to train on"),
        ("mine.first_rank=99", "is after"),
        ("train.patience=2", "train.patience = 2 stops nothing with train.evals = 2; set more evals"),
        ("evaluate.depth=3", "evaluate.depth = 3"),
        ("encoder.model=", "encoder.model = '': takes a text that is not empty"),
        ("lm.model= ", "lm.model = ' '"),
        ("generate.program=", "generate.program = ''"),
        ("train.teacher=", "train.teacher = ''"),
        ("mine.index=", "mine.index = ''"),
        ("collection.dataset=", "collection.dataset is empty; name a file, a folder or a data set"),
    ],
)
def test_wrong_values_are_named(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("override", "takes"),
    [
        ("train.epochs=many", "train.epochs = 'many': takes a number above 0"),
        ("mine.sources=", "mine.sources = []: takes a list that is not empty, each dense or bm25"),
        ("train.seeds=[]", "train.seeds = []: takes a list that is not empty, each a whole number"),
        ("collection.dev=2", "collection.dev = 2: takes a number from 0 to 1"),
        ("collection.divide_test=maybe", "collection.divide_test = 'maybe': takes true or false"),
        ("collection.min_relevance=0", "collection.min_relevance = 0: takes a number above 0"),
        ("mine.margin=foo", "mine.margin = 'foo': takes a number above 0, or auto"),
        ("mine.sources=dense,foo", "mine.sources = 'foo': takes a list that is not empty, each dense or bm25"),
        ("generate.pairs=1.5", "generate.pairs = 1.5: takes a whole number of at least 0"),
        ("generate.shard=3", "generate.shard = '3': takes PART/PARTS, as in 2/8"),
        ("train.seeds=1,1", "train.seeds = '1,1': a seed occurs twice: the same training would count as two"),
        ("train.epochs=inf", "train.epochs = inf: takes a finite number"),
        ("mix.ratio=inf", "mix.ratio = inf: takes a finite number"),
        ("train.epochs=nan", "train.epochs = nan: takes a finite number"),
        ("train.seeds=3", "train.seeds = 3: takes a list of seeds, as in 0,1,2; their number is --seeds 3"),
        ('train.seeds="3"', "train.seeds = '3': takes a list of seeds, as in 0,1,2; their number is --seeds 3"),
        ("lm.extra=3", "lm.extra = 3: takes a table, as in {key = 1}"),
        ("judge.temperature=hot", "judge.temperature = 'hot': takes a number from 0 to 2"),
        ("mix=3", "mix = 3: is a section; name one of its settings, as mix.NAME"),
        ("seed=x", "seed = 'x': takes a whole number"),
    ],
)
def test_a_wrong_value_is_told_what_the_setting_takes(override: str, takes: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, [override])
    assert str(error.value) == f"1 wrong setting:\n  {takes}"


@pytest.mark.parametrize("key", [key for key in known_keys() if "." in key])
def test_no_setting_is_explained_in_words_of_a_library(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^1 wrong setting:\n  {key} = .*: takes [^\n]*$"):
        load_config(None, (), {key: object()})


def test_a_key_among_the_settings_is_sent_to_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[lm]\napi_key = "sk-planted-key"\n[mine]\ndepht = 1\n')
    with pytest.raises(ConfigError) as error:
        load_config(path)
    line = next(line for line in str(error.value).splitlines() if "lm.api_key" in line)
    assert "no setting holds a key; export the provider's variable, such as OPENAI_API_KEY" in line
    assert "api_base" not in str(error.value) and "sk-planted-key" not in str(error.value)


@pytest.mark.parametrize("key", ["budget.token", "lm.tokens", "lm.max_token", "generate.keys"])
def test_a_slip_in_another_name_is_answered_with_the_nearest(key: str) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        load_config(None, [f"{key}=1"])


def test_a_config_that_is_no_text_is_told_what_to_be(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("seed = 3\n", encoding="utf-16")
    with pytest.raises(ConfigError, match=r"not UTF-8 \(.*c\.toml\); save it as UTF-8"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"Is a directory \(.*\); give a TOML file, as `syneg-dspy init` writes"):
        load_config(tmp_path)


def test_flags_win_over_set_and_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("seed = 1\n[mix]\nratio = 0.1\nnegatives = 4\n")
    config = load_config(path, ["mix.ratio=0.2"], {"mix.ratio": 0.3, "seed": None})
    assert (config.seed, config.mix.ratio, config.mix.negatives) == (1, 0.3, 4)


@given(st.text(max_size=30), st.floats(0, 10), st.lists(st.text(max_size=10), max_size=3))
def test_the_resolved_config_reads_back_the_same(task: str, ratio: float, domains: list[str]) -> None:
    import tempfile

    config = Config.model_validate(
        {"collection": {"task": task}, "mix": {"ratio": ratio}, "generate": {"domains": domains}}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.toml"
        path.write_text(to_toml(config), encoding="utf-8", newline="")
        assert load_config(path) == config


def test_a_run_without_a_collection_is_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from syneg.cli.main import _settings

    monkeypatch.chdir(tmp_path)
    flags: dict[str, Any] = {
        "config_path": None,
        "overrides": (),
        "preset": None,
        "folder": None,
        "fast": False,
        "dataset": None,
    }
    folder, config = _settings(flags)
    assert (config.collection.dataset, config.mix.negatives) == ("python-docs-small", 1)
    assert folder == Path("runs/python-docs-small")
    assert _settings({**flags, "dataset": "python-docs"})[1].mix.negatives == Config().mix.negatives
    assert (
        _settings({**flags, "overrides": ("collection.dataset=python-docs",)})[1].mix.negatives
        == Config().mix.negatives
    )


def test_a_stage_uses_the_settings_of_its_folder(tmp_path: Path) -> None:
    from syneg.cli.main import _settings

    own = to_toml(load_config(None, ["collection.dataset=a.csv", "mine.per_query=7"]))
    (tmp_path / "config.toml").write_text(own)
    flags: dict[str, Any] = {
        "config_path": None,
        "overrides": (),
        "preset": None,
        "folder": tmp_path,
        "fast": False,
        "dataset": None,
    }
    assert _settings(flags)[1].mine.per_query == 7
    assert _settings({**flags, "overrides": ("mine.per_query=5",)})[1].collection.dataset == "a.csv"
    with pytest.raises(ConfigError, match="belongs to 'a.csv', not to 'b.csv'"):
        _settings({**flags, "dataset": "b.csv"})
    other = tmp_path / "other.toml"
    other.write_text('[collection]\ndataset = "b.csv"\n')
    with pytest.raises(ConfigError, match="belongs to 'a.csv', not to 'b.csv'"):
        _settings({**flags, "config_path": other})


def test_names_of_own_files_are_kept_as_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["pairs.csv", "docs.jsonl", "given.jsonl", "calls.jsonl", "program.json", "model.gguf"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "encoder").mkdir()
    (tmp_path / "reflective").mkdir()  # a folder that is called as a program is
    monkeypatch.chdir(tmp_path)
    settings = [
        "collection.dataset=pairs.csv", "collection.corpus=./docs.jsonl", "generate.given=given.jsonl", "encoder.model=encoder",
        "executor.replay=calls.jsonl", "generate.program=program.json", "boundary.program=reflective", "lm.model=local/model.gguf",
        "judge.model=openai/gpt-4o-mini",
    ]  # fmt: skip
    (tmp_path / "config.toml").write_text(to_toml(load_config(None, settings)))
    monkeypatch.chdir("/")
    config = load_config(tmp_path / "config.toml")
    assert config.collection.dataset == str(tmp_path / "pairs.csv")
    assert config.collection.corpus == str(tmp_path / "docs.jsonl")
    assert config.generate.given == str(tmp_path / "given.jsonl")
    assert config.encoder.model == str(tmp_path / "encoder")
    assert config.executor.replay == str(tmp_path / "calls.jsonl")
    assert config.generate.program == str(tmp_path / "program.json")
    assert config.lm.model == f"local/{tmp_path / 'model.gguf'}"
    assert (config.boundary.program, config.judge.model) == ("reflective", "openai/gpt-4o-mini")
    assert load_config(None, ["collection.dataset=beir/scifact"]).collection.dataset == "beir/scifact"
    assert load_config(None, [f"collection.dataset={'x' * 5000}"]).collection.dataset == "x" * 5000


@pytest.mark.parametrize(
    ("given", "known"),
    [("Claim Verification", "claim verification"), ("question-answering", "question answering"),
     (" duplicate_questions.", "duplicate questions"), ("It names the fault and its fix.", "")],
)  # fmt: skip
def test_a_known_task_is_found_in_any_spelling(given: str, known: str) -> None:
    task = task_for(load_config(None, (), {"collection.task": given}))
    assert task == TASKS[known] if known else task.definition == given


def test_the_task_goes_by_the_name_of_the_set_and_not_by_the_folders_above_it(tmp_path: Path) -> None:
    path = tmp_path / "scifact" / "pairs.csv"
    path.parent.mkdir()
    path.touch()
    tasks = {
        name: task_for(load_config(None, [f"collection.dataset={name}"])) for name in (str(path), str(path.parent))
    }
    assert tasks[str(path)].definition == TASKS["question answering"].definition
    assert tasks[str(path.parent)] == TASKS["claim verification"]


@pytest.mark.parametrize(
    ("text", "key", "items"),
    [
        ("mine.sources=dense", "sources", ("dense",)),
        ("mine.sources=bm25, dense", "sources", ("bm25", "dense")),
        ('mine.sources=["dense"]', "sources", ("dense",)),
    ],
)
def test_a_list_may_be_given_with_commas(text: str, key: str, items: tuple[str, ...]) -> None:
    assert getattr(load_config(None, [text]).mine, key) == items


def test_numbers_of_a_list_may_be_given_with_commas() -> None:
    assert load_config(None, ["train.alphas=0.5"]).train.alphas == (0.5,)
    assert load_config(None, ["train.seeds=0,1"]).train.seeds == (0, 1)
    with pytest.raises(ConfigError, match="sources"):
        load_config(None, ["mine.sources=dense,other"])


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("encoder.query_prompt=query: ", "query: "),
        ("encoder.query_prompt= Q:\n", " Q:\n"),
        ("encoder.query_prompt = query:", "query:"),
        ('encoder.query_prompt="query: "', "query: "),
        ("encoder.query_prompt=", ""),
        ("collection.task=2024-01-01", "2024-01-01"),
        ("encoder.model=true", "true"),
        ("lm.model=12", "12"),
        ("collection.encoding=[1]", "[1]"),
    ],
)
def test_a_setting_that_is_a_text_takes_it_as_it_stands(override: str, value: str) -> None:
    section, name = override.split("=")[0].strip().split(".")
    assert getattr(getattr(load_config(None, [override]), section), name) == value


def test_a_mark_at_the_start_of_a_config_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("seed = 3\n", encoding="utf-8-sig")
    assert load_config(tmp_path / "c.toml").seed == 3


def test_a_wrong_setting_is_blamed_on_what_named_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^1 unknown setting:\n  unknown key 'trian.epochs'; .*'train.epochs'"):
        load_config(None, ["trian.epochs=3"])
    with pytest.raises(ConfigError, match=r"^1 wrong setting:\n  generate.pairs = -1: "):
        load_config(None, (), {"generate.pairs": -1, "lm.model": None})
    own = tmp_path / "own.toml"
    own.write_text("[generate]\npairs = -1\n")
    with pytest.raises(ConfigError, match=r"^1 wrong setting in .*own\.toml:\n  generate.pairs"):
        load_config(own, (), {"lm.model": None})
    with pytest.raises(ConfigError, match=r"^2 wrong settings:\n"):
        load_config(own, ["mine.per_query=-1"])
