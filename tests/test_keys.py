"""A changed input never meets an old result: keys hold the whole config but what is listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM

from syneg.core.config import Config
from syneg.core.progress import Progress
from syneg.core.section import Section
from syneg.core.settings import load_config
from syneg.core.storage import read_rows, write_text
from syneg.run.keys import NO_RESULT, NOT_HANDED, PARTS, source_of, stage_key
from syneg.run.manifest import Manifest
from syneg.run.pipeline import Run

Settings = Callable[..., list[str]]


def other(value: Any) -> Any:
    """Another value of the same type; its limits are not checked."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, tuple):
        return (
            *value,
            99 if value and isinstance(value[0], int) else 0.5 if value and isinstance(value[0], float) else "other",
        )
    return f"{value}-other"


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("stage", NOT_HANDED)
def test_every_setting_is_in_the_key_but_those_listed(stage: str) -> None:
    config, before = Config(), stage_key(stage, Config())
    for name, info in Config.model_fields.items():
        section = info.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            continue
        for key in section.model_fields:
            changed = getattr(config, name).model_copy(update={key: other(getattr(getattr(config, name), key))})
            after = stage_key(stage, config.model_copy(update={name: changed}))
            listed = name in NOT_HANDED[stage] or (
                name in NO_RESULT and (NO_RESULT[name] is None or key in (NO_RESULT[name] or ()))
            )
            listed = listed or key in PARTS.get(name, ())
            assert (after == before) == listed, f"{name}.{key}"
    assert stage_key(stage, config.model_copy(update={"seed": 1})) != before


def test_a_stage_that_breaks_off_leaves_no_old_key_on_a_new_file(tmp_path: Path) -> None:
    manifest, path = Manifest(tmp_path), tmp_path / "rows.jsonl"
    manifest.make("mine", "first", path, lambda: write_text(path, "first"))

    def breaks_off() -> None:
        write_text(path, "half of the second")
        raise OSError("disk")

    with pytest.raises(OSError):
        manifest.make("mine", "second", path, breaks_off)
    assert Manifest(tmp_path).key("mine") is None
    assert Manifest(tmp_path).make("mine", "first", path, lambda: write_text(path, "first"))
    assert path.read_text() == "first"


def test_facts_are_in_a_first_run_as_a_rerun_reads_them(tmp_path: Path) -> None:
    first = Manifest(tmp_path)
    first.note(kinds={"keywords": 2, "a question": 1}, sizes=(1, 2))
    assert [*first.facts["kinds"]] == [*Manifest(tmp_path).facts["kinds"]] == ["a question", "keywords"]


def test_the_source_of_ones_own_program_is_part_of_the_key(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import dspy\nfrom syneg import HardNegative\n\n\nclass Mine(dspy.Module):\n"
        "    def forward(self, *, query, positive, task, attributes, candidates=()):\n"
        "        return dspy.Prediction(negatives=[HardNegative(text='the lock is merged twice WORD', program='mine')])\n"
    )
    (tmp_path / "keyed_program.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert source_of("keyed_program:Mine") == text
    assert source_of("single_prompt") == ""
    overrides = settings(fake_lm().url, **{"generate.program": "keyed_program:Mine", "generate.pairs": 2})

    def key() -> str | None:
        Run(tmp_path / "run", load_config(None, overrides), Progress(quiet=True)).until("generate")
        return Manifest(tmp_path / "run").key("negatives")

    first = key()
    assert key() == first
    (tmp_path / "keyed_program.py").write_text(text.replace("WORD", "slowly"))
    assert key() != first


@pytest.mark.parametrize(
    "change", ["encoder.passage_prompt=passage:", "collection.task=another", "lm.max_tokens=77", "gates.floor=0.01"]
)
def test_what_decides_negatives_makes_them_anew(
    change: str, tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    overrides = settings(fake_lm().url, **{"generate.pairs": 2})

    def rows(*more: str) -> tuple[str | None, int]:
        Run(tmp_path / "run", load_config(None, [*overrides, *more]), Progress(quiet=True)).until("generate")
        return Manifest(tmp_path / "run").key("negatives"), len(list(read_rows(tmp_path / "run" / "negatives.jsonl")))

    first = rows()
    assert rows("lm.timeout_s=99", "budget.calls=500") == first
    assert rows(change)[0] != first[0]


def test_what_is_kept_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "rows.jsonl"

    def made(manifest: Manifest, stage: str, key: str) -> None:
        manifest.make(stage, key, path, lambda: write_text(path, key))

    for _ in range(2):  # what this process made is not kept from an earlier one
        made(Manifest(tmp_path), "mine", "first")
    first = Manifest(tmp_path, said.append)
    made(first, "mine", "second")
    made(first, "mine", "second")
    assert said == []
    later = Manifest(tmp_path, said.append)
    made(later, "mine", "second")
    made(later, "mine", "second")
    made(later, "read", "first")
    assert said == ["mine: kept from an earlier run"]


def test_of_many_results_of_a_kind_only_their_number_is_said(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = settings("http://127.0.0.1:9/v1", **{"train.arms": '["mined"]', "train.epochs": 1, "train.evals": 1})

    def said(*more: str) -> list[str]:
        Run(tmp_path / "run", load_config(None, [*overrides, *more]), Progress()).until("verdict")
        return [line.removesuffix(": kept from an earlier run") for line in capsys.readouterr().err.splitlines()]

    two = "train.seeds=[0, 1]"
    assert not [line for line in said(two) if "kept" in line or "model" in line]
    again = said(two)
    assert "2 models, 2 evaluations" in again and "mine" in again and "evaluate base" in again
    assert not [line for line in again if "mined-" in line or line.startswith("train ")]
    more = said("train.seeds=[0, 1, 2]")
    assert more.index("2 models, 2 evaluations") < min(n for n, line in enumerate(more) if line.startswith("train "))
    assert "1 model" not in more and "1 evaluation" not in more
    events = [row["text"] for row in read_rows(tmp_path / "run" / "events.jsonl") if row["event"] == "said"]
    assert events.count("2 models, 2 evaluations: kept from an earlier run") == 2
