"""The benchmarks still start, and what they share computes what it says."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import get_type_hints

import pytest
from click.testing import CliRunner

from syneg.cli.main import cli
from syneg.core.records import Instance, Pair

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SHARED = ("configured", "made", "options", "turns", "fidelity_report")
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in SHARED)
PRINT_ALONE = ("bm25_terms", "gepa_ways")
OTHERS_WRITE = ("full", "gpu")  # these run scripts that write JSON
(_LOOP,) = re.findall(r"^\t.*for name in ([a-z_ ]+); do", (FOLDER.parent / "Makefile").read_text(), re.MULTILINE)
BENCH = _LOOP.split()  # what `make bench` runs
NOT_IN_BENCH = ("gpu", "sampler_race", "objective_fidelity", "sparse_labels")  # for a card; long, or with a data set
MEASURED = {  # what these find in this process
    "growth": ("passages.collection", "passages.mine", "passages.generate"),
    "ledger": ("1,000.lookups_a_s", "5,000.appends_a_s"),
    "mining": ("ours.warm_s", "theirs.warm_s", "ours.negatives", "theirs.negatives"),
    "mining_memory": ("ours.cold_s", "ours.warm_mb"),
    "corpus_size": ("2,000.collection_s", "2,000.mine_bm25_cpu_s", "2,000.dense_negatives", "2,000.bm25_negatives"),
    "programs": ("single_prompt.accepted", "single_prompt.tokens"),
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(FOLDER))

    def module(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    yield module
    for name in (*SHARED, *(path.stem for path in FOLDER.glob("*.py"))):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_benchmark_finds_what_it_imports(load, name: str) -> None:  # type: ignore[no-untyped-def]
    result = CliRunner().invoke(load(name).main, ["--help"])
    assert result.exit_code == 0 and "Usage" in result.output, result.output


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_flag_of_a_benchmark_has_its_place(load, name: str) -> None:  # type: ignore[no-untyped-def]
    main = load(name).main
    hints = get_type_hints(main.callback)
    hints.pop("return")
    options = hints.get("options")
    places = [field.name for field in fields(options)] if is_dataclass(options) else list(hints)
    assert sorted(places) == sorted(flag.name for flag in main.params)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in (*PRINT_ALONE, *OTHERS_WRITE)])
def test_each_benchmark_writes_json(load, name: str) -> None:  # type: ignore[no-untyped-def]
    assert ["--json"] in [flag.opts for flag in load(name).main.params]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in NOT_IN_BENCH])
def test_make_bench_runs_every_quick_form(load, name: str) -> None:  # type: ignore[no-untyped-def]
    assert ("quick" in [flag.name for flag in load(name).main.params]) == (name in BENCH)


def _in_this_process(sides: dict[str, Callable[[], dict[str, object]]], turns: int) -> dict[str, list[object]]:
    return {name: [json.loads(json.dumps(side())) for _ in range(turns)] for name, side in sides.items()}


def _called_here(arguments: list[str], home: Path) -> dict[str, float]:
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return {"whole": 1.0}


@pytest.mark.parametrize("name", MEASURED)
def test_the_quick_form_measures(
    load,  # type: ignore[no-untyped-def]
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process, which has loaded torch and DSPy; `make bench` takes a process for each side."""
    monkeypatch.chdir(tmp_path)
    module = load(name)
    for what, here in (("in_turn", _in_this_process), ("called", _called_here)):
        if hasattr(module, what):
            monkeypatch.setattr(module, what, here)
    done = CliRunner().invoke(module.main, ["--quick", "--json", "found.json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    measured = json.loads(Path("found.json").read_text())["measured"]
    figures = {f"{side}.{key}": value for side, rows in measured.items() for row in rows for key, value in row.items()}
    for figure in MEASURED[name]:
        assert figures[figure] > 0, figure
    assert re.search(r"\d\.\d", done.output), "it prints no figure"


def test_figures_are_written_with_the_machine_they_were_measured_on(load, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    load("turns").save(tmp_path / "found.json", "name", {"pairs": 3}, {"ours": [{"s": 1.0}]})
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["settings"], found["measured"]) == ({"pairs": 3}, {"ours": [{"s": 1.0}]})
    machine = found["machine"]
    assert machine["cores"] > 0 and len(machine["load"]) == 3 and "torch" in machine["versions"]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(machine["date"])) < timedelta(minutes=1)
    about = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert "model name" not in about or f": {machine['processor']}\n" in about


def test_growth_is_fitted_over_sizes_that_take_long_enough(load) -> None:  # type: ignore[no-untyped-def]
    exponent = load("growth").exponent
    assert exponent([10, 100, 1000], [0.001, 1.0, 100.0]) == pytest.approx(2.0)
    assert exponent([10, 100], [0.001, 1.0]) is None


def test_ratios_are_taken_within_a_turn(load) -> None:  # type: ignore[no-untyped-def]
    rows = {"theirs": [{"s": 1.0}, {"s": 10.0}], "ours": [{"s": 2.0}, {"s": 5.0}]}
    assert "1.25 [0.50, 2.00]" in load("turns").table(rows, "theirs")


SIDES = """
def measures():
    return {"s": 1.0}

def fails():
    raise ValueError("planted")

def fails_the_second_time(mark):
    mark.touch(exist_ok=False)
    return {"s": 2.0}
"""


def test_a_side_that_fails_leaves_the_figures_of_the_others(
    load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "sides_of_a_test.py").write_text(SIDES)  # each side is a process: these import nothing
    monkeypatch.syspath_prepend(str(tmp_path))
    turns, sides = load("turns"), importlib.import_module("sides_of_a_test")
    later = partial(sides.fails_the_second_time, tmp_path / "mark")
    measured = turns.in_turn({"theirs": sides.measures, "ours": sides.fails, "later": later}, 2)
    assert {name: len(rows) for name, rows in measured.items()} == {"theirs": 2, "later": 1}
    assert measured.failed == {"ours": 1, "later": 2}
    assert "2.00 [2.00, 2.00]" in turns.table(measured, "theirs")
    assert "ratio" not in turns.table(measured, "ours")
    with pytest.raises(SystemExit, match="error: ours failed in turn 1, later failed in turn 2, see above") as ended:
        turns.save(tmp_path / "report.json", "name", {}, measured)
    assert not isinstance(ended.value.code, int)  # a text is printed, and the status is 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert (len(report["measured"]["theirs"]), report["failed"]) == (2, {"ours": 1, "later": 2})
    with pytest.raises(RuntimeError, match="all failed, see above: ours"):
        turns.in_turn({"ours": sides.fails}, 2)


def test_gpu_runs_scripts_with_options_that_they_know_and_skips_in_a_line_without_a_card(
    load,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu = load("gpu")
    result = CliRunner().invoke(gpu.main, [])
    assert (result.exit_code, result.output) == (0, "no CUDA device: nothing is measured\n")
    for name in gpu.PARTS:
        _, script, *arguments = gpu.command(name, True, tmp_path)
        if script != "-m":
            main = load(Path(script).stem).main
            asked = main.make_context(name, arguments).params
            assert asked["quick"], name
            assert "cuda" in str(asked), name


def test_the_full_form_runs_scripts_with_options_that_they_know(load, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    full = load("full")
    for name in full.PARTS:
        _, script, *arguments = full.command(name, tmp_path, ("cranfield",))
        asked = load(Path(script).stem).main.make_context(name, arguments).params
        assert asked["path"] == tmp_path / f"{name}.json"
        assert ("cranfield" in str(asked)) == (name == "objective")


def test_a_slow_server_gets_whole_waves_of_fewer_calls(load) -> None:  # type: ignore[no-untyped-def]
    calls_for = load("lm_overhead").calls_for
    assert [calls_for(latency, 32, 320) for latency in (0.1, 0.5, 2.0, 60.0)] == [320, 320, 160, 32]


def test_ways_are_shown_with_their_spread_and_their_ratio_to_litellm(load) -> None:  # type: ignore[no-untyped-def]
    def turn(rate: float) -> dict[str, float]:
        return {"calls_a_s": rate, "of_ideal": rate / 320, "core_ms_a_call": 4.0}

    shown = load("lm_overhead").shown({"litellm": [turn(160), turn(80)], "ours": [turn(80), turn(80)]})
    assert shown.splitlines()[2].split("  ")[-1].strip() == "0.75 [0.50, 1.00]"
    assert "0.25 [0.25, 0.25]" in shown.splitlines()[2]


def test_fidelity_is_reported_for_a_collection_without_confirm_queries(
    load,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    probe = {f"set{i}": {"gain": i / 100, "error": 0.01, "likelihood": i / 10, "seconds": 2.0} for i in range(4)}
    full = {name: {"0": {"test": i / 10, "held": i / 10, "seconds": 100.0}} for i, name in enumerate(probe)}
    for name, of in (("probe", probe), ("full", full)):
        (tmp_path / f"{name}.json").write_text(json.dumps(of))
    splits = {"confirm": (), "test": ("q1", "q2")}
    run = SimpleNamespace(folder=tmp_path, workspace=SimpleNamespace(collection=SimpleNamespace(splits=splits)))
    settings, rows = load("fidelity_report").report(run, list(probe), tmp_path)
    told = capsys.readouterr().out
    assert "tau of the probe's value with full training, other queries: 1.00" in told
    assert "full training costs 50 times as much as the probe, over 4 sets" in told
    assert settings["tau"]["the probe's value, other"]["tau"] == pytest.approx(1.0)
    assert (rows["set3"], settings["probe"]["set3"]["gain"]) == ([{"same": 0.3, "other": 0.3, "seconds": 100.0}], 0.03)
    assert json.loads(json.dumps([settings, rows]))


def test_rows_beyond_those_of_a_collection_are_copies_of_their_own(load) -> None:  # type: ignore[no-untyped-def]
    pair = Pair("q", "close a socket", "d", "Close the socket.")
    rows = load("training_speed").enough([Instance(pair, ("Open it.",), ("dense",), (1.0,), (None,))], 3)
    assert [row.pair.query_id for row in rows] == ["q", "q#1", "q#2"]
    assert len({row.negatives for row in rows}) == 3


def test_an_accepted_negative_costs_its_share_of_all_calls(load) -> None:  # type: ignore[no-untyped-def]
    found = {"calls": 30, "input_tokens": 900, "output_tokens": 300, "call_seconds": 60.0, "usd": None, "accepted": 12}
    each = load("programs").each
    assert each(found, 2) == {"calls": 2.5, "tokens": 100, "seconds": 2.5, "usd": 0}
    assert each({**found, "accepted": 0}, 2)["calls"] == float("inf")


def test_recipes_prints_one_table_and_reads_what_is_made(
    load,  # type: ignore[no-untyped-def]
    beir: Path,
    encoder_path: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    args = ["--quick", "--dataset", str(beir), "--recipes", "search,bootstrap", "--out", str(tmp_path / "out")]
    args += [
        "--json",
        str(tmp_path / "found.json"),
        "--set",
        f"encoder.model={encoder_path}",
        "--set",
        "encoder.precision=fp32",
    ]
    module, both = load("recipes"), ExitStack()
    url = both.enter_context(module.scripted_server())  # the same address both times: it is part of what was made
    monkeypatch.setattr(module, "scripted_server", lambda: nullcontext(url))
    found = CliRunner().invoke(module.main, args, catch_exceptions=False).output
    rows = [line.strip("| ").split(" | ") for line in found.splitlines() if line.startswith("| ")]
    assert rows[0] == list(module._COLUMNS) and [line[0] for line in rows[1:]] == ["search", "bootstrap"]
    search = dict(zip(rows[0], rows[1], strict=True))
    assert re.fullmatch(r"[+-]\d\.\d{4} ± \d\.\d{4}", search["gain of the best"])
    assert re.fullmatch(r"[+-]\d\.\d{4} \[[+-]\d\.\d{4}, [+-]\d\.\d{4}\]", search["on unseen queries"])
    assert (search["queries"], search["replaced"]) == ("12", "yes") and int(search["calls"]) > 8
    (figures,) = json.loads((tmp_path / "found.json").read_text())["measured"]["search"]
    assert figures["low"] > 0 and figures["minutes"] > 0
    ledger = (tmp_path / "out" / "reader-search" / "ledger" / "calls.jsonl").read_bytes()
    again = CliRunner().invoke(module.main, args, catch_exceptions=False).output
    assert [line for line in again.splitlines() if line.startswith("| ")] == [
        line for line in found.splitlines() if line.startswith("| ")
    ]
    assert (tmp_path / "out" / "reader-search" / "ledger" / "calls.jsonl").read_bytes() == ledger
    both.close()


def test_quality_counts_differences_by_query(load) -> None:  # type: ignore[no-untyped-def]
    found = {"base": [{"a": 0.0, "b": 0.5}], "st-95": [{"a": 0.2, "b": 0.4}, {"a": 0.4, "b": 0.4}]}
    base, stock = load("quality").compared(found, "base")
    assert base["difference"] == 0
    assert stock["ndcg"] == pytest.approx(0.35)
    assert stock["difference"] == pytest.approx(0.1)
    assert stock["seeds"] == pytest.approx([0.3, 0.4])


def _twice_judged(beir: Path) -> None:
    """Give each query of the folder a second relevant passage, and make all queries test queries."""
    rows = [json.loads(line) for line in (beir / "corpus.jsonl").read_text().splitlines()]
    twice = [{**row, "_id": f"{row['_id']}b", "text": f"the {row['text'].split(' the ')[1]} twice"} for row in rows]
    (beir / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + twice))
    judged = (beir / "qrels" / "train.tsv").read_text().splitlines()
    more = [line.removesuffix("\t1") + "b\t1" for line in judged[1:]]
    (beir / "qrels" / "train.tsv").unlink()
    (beir / "qrels" / "test.tsv").write_text("\n".join([*judged, *more]) + "\n")


def _sparse(beir: Path, encoder_path: str, *more: str) -> list[str]:
    args = ["--dataset", str(beir), "--oracle", "--quick"]
    small = ("encoder.precision=fp32", "train.frozen_layers=0", "train.batch_size=8")
    for value in (f"encoder.model={encoder_path}", *small, *more):
        args += ["--set", value]
    return args


def test_sparse_labels_hides_all_positives_but_one(
    load,  # type: ignore[no-untyped-def]
    beir: Path,
    encoder_path: str,
    tmp_path: Path,
) -> None:
    _twice_judged(beir)
    args = [*_sparse(beir, encoder_path), "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(load("sparse_labels").main, args, catch_exceptions=False).output
    assert "19 test queries, 1 seeds" in found and "reader: oracle" in found
    assert [row.split(" | ")[0] for row in found.splitlines() if row.startswith("| ")][1:] == ["| untuned", "| in-batch", "| mined", "| verified"]  # fmt: skip
    assert re.search(r"hidden positives read: \d\d, 100% got a 3", found)
    base = json.loads((tmp_path / "out" / "fold-0" / "evaluation" / "base.json").read_text())["test"]
    ids = [*base["ranking"]][:5]
    (tmp_path / "some.txt").write_text("\n".join(ids))
    args += ["--queries", str(tmp_path / "some.txt"), "--json", str(tmp_path / "found.json")]
    found = CliRunner().invoke(load("sparse_labels").main, args, catch_exceptions=False).output
    mean = sum(base["values"]["ndcg@10"][q] for q in ids) / 5
    assert "5 test queries, 1 seeds" in found and f"| untuned | {mean:.4f} |" in found
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["measured"]["base"][0]["ndcg"] == pytest.approx(mean) and "less" in written["measured"]["base"][0]
    assert (written["settings"]["queries"], *written["measured"]["verified"][0]) == (5, "ndcg")


def test_sparse_labels_writes_once_for_every_query(
    load,  # type: ignore[no-untyped-def]
    beir: Path,
    encoder_path: str,
    tmp_path: Path,
    fake_lm,  # type: ignore[no-untyped-def]
) -> None:
    _twice_judged(beir)
    lm, out = fake_lm(), tmp_path / "out"
    more = ("train.arms=in-batch,hybrid", "lm.model=openai/fake", f"lm.api_base={lm.url}", "generate.program=single_prompt",
            "judge.use=off", "gates.margin=0", "gates.floor=0", "generate.attempts=1", "train.epochs=1")  # fmt: skip
    args = [*_sparse(beir, encoder_path, *more), "--against", "hybrid", "--out", str(out)]
    found = CliRunner().invoke(load("sparse_labels").main, args, catch_exceptions=False).output
    assert [row.split(" | ")[0] for row in found.splitlines() if row.startswith("| ")] == ["| arm", "| untuned", "| in-batch", "| hybrid"]  # fmt: skip
    assert "hybrid less this, 95 %" in found
    asked = {json.loads(line)["query_id"] for line in (out / "writing" / "negatives.jsonl").read_text().splitlines()}
    queries = (beir / "queries.jsonl").read_text().splitlines()
    assert len(asked) == len(lm.requests) > 60 and len(asked) <= len(queries)
    given = [json.loads(line) for line in (out / "fold-0" / "negatives.jsonl").read_text().splitlines()]
    assert given and {row["query_id"] for row in given} <= asked


def test_sparse_labels_divides_a_published_set_that_has_only_test_queries(
    load,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ir_datasets

    rows = {"docs": "{0}\tword{0} of passage {0}\n", "queries": "q{0}\twhere is word{0}?\n", "qrels": "q{0} 0 {0} 1\n"}
    files = {what: tmp_path / what for what in rows}
    for what, row in rows.items():
        files[what].write_text("".join(map(row.format, range(60))))
    made = ir_datasets.create_dataset(*(str(files[what]) for what in ("docs", "queries", "qrels")))
    monkeypatch.setitem(ir_datasets.registry._registered, "beir/tiny", made)
    config = load("configured").configured(("collection.dataset=beir/tiny",), {}, fast=True)
    whole = load("sparse_labels").whole_collection(config, tmp_path)
    assert len(whole.passages) == 60 and whole.splits["train"] and whole.splits["test"]


def test_what_a_user_sets_wins_over_the_settings_of_a_benchmark(load) -> None:  # type: ignore[no-untyped-def]
    own = {"mine.margin": 0.95, "train.pairs": 0}
    config = load("configured").configured(("mine.margin = 10", "seed=3"), own, fast=True)
    assert (config.mine.margin, config.train.pairs, config.seed, config.train.evals) == (10, 0, 3, 1)


def test_two_margins_are_compared_query_by_query(load) -> None:  # type: ignore[no-untyped-def]
    race = load("sampler_race")
    ours = [{f"q{i}": 0.5 + i / 100 for i in range(20)}, {f"q{i}": 0.7 + i / 100 for i in range(20)}]
    theirs = [{f"q{i}": 0.5 for i in range(20)}] * 2
    found = race.compared(ours, theirs)
    assert (found["gain"], found["queries"]) == (pytest.approx(0.195), 20) and 0 < found["low"] < found["gain"]
    assert race.told(found).startswith("+0.1950 [") and race.told(found).endswith("p = 0.0000, 20 queries")
    assert race.told(race.compared(theirs, theirs)) == "+0.0000 [+0.0000, +0.0000], p = 1.0000, 20 queries"
