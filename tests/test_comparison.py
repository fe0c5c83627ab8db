"""Runs beside each other, and what a report says of times and of a compiled prompt."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from syneg.cli.main import cli
from syneg.core.errors import ConfigError, DataError
from syneg.core.storage import write_json
from syneg.run.comparison import side, sides
from syneg.run.evidence import times
from syneg.run.folder import RunFolder
from syneg.run.manifest import Manifest
from syneg.verdict.comparison import changed_settings, comparison_page, comparison_table
from syneg.verdict.figures import curves
from syneg.verdict.page import Evidence, html_report
from syneg.verdict.records import ArmResult, Comparison, Verdict


def finished(path: Path, *, shift: float, queries: int = 60, fingerprint: str = "f", collection: str = "toy",
             settings: str = "") -> RunFolder:  # fmt: skip
    """A run folder as a comparison reads it: one arm, two seeds, whose queries are `shift` better than the base's."""
    folder, draw = RunFolder(path), random.Random(0)
    values = {f"q{i}": draw.uniform(0.2, 0.6) for i in range(queries)}
    arms = {
        "base": ArmResult({"ndcg@10": 0.4}, {}, {"ndcg@10": 0.4}),
        "mined": ArmResult(
            {"ndcg@10": 0.4 + shift}, {}, {"ndcg@10": 0.4 + shift}, 2, {0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}
        ),
    }
    row = Comparison("base", "mined", shift, (shift - 0.01, shift + 0.01), 0.01, 0.01, True, 0.02, 40, 20)
    told = Verdict(collection, fingerprint, "ndcg@10", 0.05, {"test": queries}, arms, "mined", (row,), "Mined won.")
    write_json(folder.verdict, told.to_json())
    folder.config.write_text(settings)
    for name, change in (("base", 0.0), ("mined-0", shift - 0.02), ("mined-1", shift + 0.02)):
        data = {"test": {"ranking": {}, "values": {"ndcg@10": {q: v + change for q, v in values.items()}}}}
        write_json(folder.evaluation(name), data)
    return folder


def test_runs_over_one_collection_are_compared_query_by_query(tmp_path: Path) -> None:
    a, b = sides([finished(tmp_path / name, shift=shift).path for name, shift in (("a", 0.05), ("b", 0.08))])
    assert (a.name, b.name) == ("a", "b")
    assert a.best_values.keys() == b.best_values.keys()
    text = " ".join(comparison_table([a, b]).split())
    assert "Same collection: mined of b less mined of a: +0.030 [+0.030, +0.030]" in text
    assert "over 60 test queries." in text
    few = [side(finished(tmp_path / name, shift=0.05, queries=8), "x") for name in ("c", "d")]
    assert "under 50 queries tell little" in " ".join(comparison_table(few).split())


@pytest.mark.parametrize(
    ("collection", "says"),
    [
        ("toy", "x and x are both over toy, but their splits, texts or qrels differ"),
        ("other", "x is over other, x over toy: they are two collections"),
    ],
)
def test_runs_over_other_data_are_not_compared(tmp_path: Path, collection: str, says: str) -> None:
    a = side(finished(tmp_path / "a", shift=0.05), "x")
    b = side(finished(tmp_path / "b", shift=0.05, fingerprint="g", collection=collection), "x")
    text = " ".join(comparison_table([a, b]).split())
    assert f"{says}, so their figures cannot be compared" in text
    assert "Same collection" not in text


def crossed(folder: RunFolder, folds: int, fingerprint: str) -> RunFolder:
    """Make a finished run a cross-fitted one: its verdict is over 60 queries, its own test split holds 10 of them."""
    told = json.loads(folder.verdict.read_text())
    write_json(folder.verdict, {**told, "folds": folds, "fingerprint": fingerprint})
    runs = {name: json.loads(folder.evaluation(name).read_text()) for name in ("base", "mined-0", "mined-1")}
    write_json(folder / "folds.json", {"base": [runs["base"]], "mined": [runs["mined-0"], runs["mined-1"]]})
    for name, run in runs.items():
        values = dict(list(run["test"]["values"]["ndcg@10"].items())[:10])
        write_json(folder.evaluation(name), {"test": {"ranking": {}, "values": {"ndcg@10": values}}})
    return folder


def test_a_cross_fitted_run_is_not_compared_with_one_of_other_folds_and_the_reason_is_said(tmp_path: Path) -> None:
    plain = finished(tmp_path / "plain", shift=0.05).path
    three, five = (crossed(finished(tmp_path / name, shift=0.05), folds, name).path
                   for name, folds in (("three", 3), ("five", 5)))  # fmt: skip
    for pair in ([plain, three], [three, plain]):
        assert " ".join(comparison_table(sides(pair)).split()).endswith(
            "three was cross-fitted in 3 folds and plain was not, so their figures cannot be compared. "
            "Run three again with evaluate.folds=0."
        )
    assert " ".join(comparison_table(sides([three, five])).split()).endswith(
        "five was cross-fitted in 5 folds and three in 3, so their figures cannot be compared. "
        "Run five again with evaluate.folds=3."
    )


def test_cross_fitted_runs_are_compared_over_the_queries_of_all_folds(tmp_path: Path) -> None:
    folders = [
        crossed(finished(tmp_path / name, shift=shift), 3, "f").path for name, shift in (("a", 0.05), ("b", 0.08))
    ]
    text = " ".join(comparison_table(sides(folders)).split())
    assert "mined of b less mined of a: +0.030 [+0.030, +0.030] nDCG@10 over 60 test queries." in text


def test_the_page_shows_what_was_set_differently_and_escapes_names(tmp_path: Path) -> None:
    a = side(finished(tmp_path / "a", shift=0.05, settings="[train]\nepochs = 3.0\n"), "x")
    b = side(finished(tmp_path / "b", shift=0.08), "<script>")
    assert changed_settings([a, b]) == [("train.epochs", "3.0", "2.0")]
    page = comparison_page([a, b])
    assert "<script>" not in page
    assert "train.epochs" in page
    assert page.count("Mined won.") == 2
    assert page.count("<figure") == 1


def test_one_run_alone_is_a_table_without_sentences(tmp_path: Path) -> None:
    alone = [side(finished(tmp_path / "a", shift=0.05), "x")]
    assert comparison_table(alone).endswith("\n* best on dev")
    assert "<h1>1 run</h1>" in comparison_page(alone)


def test_an_evaluation_that_is_not_as_it_was_written_is_not_compared(tmp_path: Path) -> None:
    folder = finished(tmp_path / "a", shift=0.05)
    path = folder.evaluation("mined-0")
    Manifest(folder).done("evaluate mined-0", "key", path)
    side(folder, "x")
    path.write_text("{}")
    with pytest.raises(DataError, match=r"not as it was written \(.*mined-0.json\); run `syneg-dspy run --run FOLDER`"):
        side(folder, "x")


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished(Path("a"), shift=0.05)
    finished(Path("b"), shift=0.08)
    said = CliRunner().invoke(cli, ["report", "a", "b"])
    assert said.exit_code == 0, said.output
    assert "page: comparison.html" in said.output
    assert Path("comparison.html").read_text().startswith("<!doctype html>")
    assert CliRunner().invoke(cli, ["report", "a", "b"]).exit_code == 0  # over its own page
    for own in ("query,positive\n", "<!doctype html><title>mine</title>", ""):
        Path("mine").write_text(own)
        with pytest.raises(ConfigError, match=r"'mine' is there already, and is no page of this command; .* --out"):
            CliRunner().invoke(cli, ["report", "a", "--out", "mine"], catch_exceptions=False)
        assert Path("mine").read_text() == own
    Path("empty").mkdir()
    Path("empty", "config.toml").touch()
    with pytest.raises(DataError, match="no verdict in this run folder"):
        CliRunner().invoke(cli, ["report", "empty"], catch_exceptions=False)


def test_a_rerun_keeps_the_times_of_the_first_run(tmp_path: Path) -> None:
    def events(*rows: tuple[str, str, float, str]) -> str:
        return "".join(
            json.dumps({"time": f"t{i}", "event": event, "stage": stage, "seconds": seconds, "text": text}) + "\n"
            for i, (event, stage, seconds, text) in enumerate(rows)
        )

    path = tmp_path / "events.jsonl"
    begun = ("begun", "collection", 0.0, "")
    first = (
        begun,
        ("done", "collection", 2.0, "toy"),
        ("done", "mine", 8.0, "3"),
        ("done", "train", 10.0, "mined-0: 3 steps"),
    )
    path.write_text(events(*first))
    assert times(path) == "Begun t0; 20 s: collection 2 s (10%), mine 8 s (40%), train 10 s (50%)"
    goes_on = (begun, ("done", "collection", 5.0, "toy"), ("done", "train", 20.0, "hybrid-0: 3 steps"))
    path.write_text(events(*first, *goes_on))
    assert times(path) == "Begun t0; 40 s: collection 2 s (5%), mine 8 s (20%), train 30 s (75%)"
    again = (
        begun,
        ("done", "collection", 5.0, "toy"),
        ("done", "mine", 9.0, "4"),
        ("done", "train", 99.0, "mined-0: 5 steps"),
    )
    path.write_text(events(*first, *goes_on, *again))
    assert times(path) == "Begun t0; 40 s: collection 2 s (5%), mine 8 s (20%), train 30 s (75%)"
    stopped = (begun, ("done", "collection", 2.0, "toy"), ("stopped", "mine", 12.0, ""))
    resumed = (begun, ("done", "collection", 5.0, "toy"), ("done", "mine", 6.0, "3"))
    path.write_text(events(*stopped, *resumed))
    assert times(path) == "Begun t0; 20 s: collection 2 s (10%), mine 18 s (90%)"
    path.write_text(events(*stopped, *resumed, begun, ("stopped", "mine", 50.0, ""), *again))
    assert "mine 18 s" in times(path)  # what was made anew adds nothing, stopped or not
    path.write_text(events(begun, ("stopped", "train", 4.0, ""), *first, *goes_on))
    assert "train 34 s" in times(path)  # once, not for each model


def test_a_long_text_of_a_sample_ends_in_a_mark_at_a_word(tmp_path: Path) -> None:
    told = Verdict.from_json(json.loads(finished(tmp_path, shift=0.05).verdict.read_text()))
    words = [f"word{i}" for i in range(300)]
    row = {"query_id": "q1", "query": "q", "doc_id": "d", "text": "short", "accepted": True, "reason": "", "figure": None,
           "threshold": None, "figures": {}, "attributes": {}, "program": "p"}  # fmt: skip
    page = html_report(told, Evidence({}, [row], {"d": " ".join(words)}))
    assert f"<p>{' '.join(words[:200])} …</p>" in page
    assert "<p>short</p>" in page


def test_the_page_has_a_table_of_arms_without_empty_columns(tmp_path: Path) -> None:
    verdict = side(finished(tmp_path / "a", shift=0.05), "x").verdict
    page = html_report(verdict, Evidence({}))
    arms = page[page.index("<h2>Arms</h2>") : page.index("</table>", page.index("<h2>Arms</h2>"))]
    assert "<td>mined*</td><td class=n>0.4500</td>" in arms
    assert "[+0.040, +0.060]" in arms
    assert "boundary" not in arms
    assert "<pre>" not in page.split("<h2>Samples")[0].split("<h2>How it was made")[0]


def test_a_curve_has_whole_steps_on_its_axis() -> None:
    drawn = curves("Score on dev", {"mined, seed 0": [(4, 1.0), (8, 0.94)]}, "nDCG@10")
    assert drawn is not None
    written = re.findall(r">([\d.]+)<", drawn.svg)
    assert "8" in written
    assert "4.5" not in written
