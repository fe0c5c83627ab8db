"""The verdict over results by hand: seeds, intervals, too few queries, names of arms, and its way to JSON and back."""

from __future__ import annotations

import html
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syneg.core.errors import DataError
from syneg.core.records import Training
from syneg.core.storage import as_read
from syneg.data.collection import Collection
from syneg.retrieval.evaluation import SplitResult
from syneg.retrieval.metrics import METRICS
from syneg.run import show
from syneg.run.folder import RunFolder
from syneg.verdict.card import data_card, model_card
from syneg.verdict.page import Evidence, html_report
from syneg.verdict.records import Comparison, Generation, NearMisses, Verdict, generation_of
from syneg.verdict.report import generation_line, notes, second_table, table
from syneg.verdict.sentences import boundary_note, sentence
from syneg.verdict.source_probe import source_probe
from syneg.verdict.statistics import detectable, paired_interval, seed_interval
from syneg.verdict.tracking import metrics
from syneg.verdict.verdict import ArmRuns, Cost, Facts, verdict


def collection(test: int = 60, dev: int = 40) -> Collection:
    ids = {"test": tuple(f"t{i}" for i in range(test)), "dev": tuple(f"v{i}" for i in range(dev))}
    queries = {q: f"query {q}" for names in ids.values() for q in names}
    return Collection("toy", {"d": "text", "e": "other"}, queries, {q: {"d": 1} for q in queries},
                      {"train": (), "confirm": (), **ids})  # fmt: skip


def result(data: Collection, shift: float, noise: float = 0.1, seed: int = 0) -> dict[str, SplitResult]:
    """Values of a normal draw around .4 + shift; the rankings are made so that ranx sees better and worse queries, too."""
    draw, found = random.Random(seed), {}
    for split in ("dev", "test"):
        values = {q: min(1.0, max(0.0, 0.4 + shift + draw.gauss(0, noise))) for q in data.splits[split]}
        ranking = {q: {"d": value, "e": 0.5} for q, value in values.items()}
        found[split] = SplitResult(ranking, dict.fromkeys(METRICS, values))
    return found


def told(runs: dict[str, ArmRuns], data: Collection | None = None, facts: Facts | None = None) -> Verdict:
    return verdict(runs, data or collection(), 0.05, facts or Facts())


def shifted(shifts: Sequence[float], seeds: tuple[int, ...], data: Collection) -> ArmRuns:
    return ArmRuns([result(data, shift) for shift in shifts], seeds)


def test_seeds_are_paired_by_their_value() -> None:
    data = collection()
    base = ArmRuns([result(data, 0)])
    runs = {
        "base": base,
        "mined": shifted([0.10, 0.12, 0.14], (0, 1, 2), data),
        "same": shifted([0.14, 0.12, 0.10], (2, 1, 0), data),
        "one": shifted([0.05], (0,), data),
        "thrice": shifted([0.05] * 3, (0, 0, 0), data),
    }
    found = told(runs, data)
    same = found.against("mined", "same")
    assert same is not None
    assert same.seed_interval == pytest.approx((0, 0), abs=1e-12)
    for arm in ("one", "thrice"):
        row = found.against("mined", arm)
        assert row is not None
        assert row.seed_interval is None
        assert found.arms[arm].seeds == 1
    against_base = found.against("base", "mined")
    assert against_base is not None
    assert against_base.seed_interval is not None
    half = 4.302653 * 0.02 / math.sqrt(3)  # t(.975, 2), and the spread of .10, .12, .14
    low, high = against_base.seed_interval
    assert (high - low) / 2 == pytest.approx(half, rel=1e-3)
    assert (low + high) / 2 == pytest.approx(against_base.delta)


def test_under_fifty_queries_nothing_is_significant() -> None:
    for test, dev in ((9, 6), (49, 40), (50, 40)):
        data = collection(test, dev)
        found = told({"base": ArmRuns([result(data, 0)]), "mined": ArmRuns([result(data, 0.3, seed=1)], (0,))}, data)
        (row,) = found.comparisons
        assert row.interval is not None
        assert row.interval[0] < row.delta < row.interval[1]
        assert row.detectable is not None
        tells = test >= 50
        assert (row.p is not None) == (row.p_holm is not None) == row.significant == tells
        assert ("too few queries to tell" in found.sentence) == (not tells)
        assert ("largely chance" in found.sentence) == (dev < 30)
        assert "nan" not in f"{table(found)}{second_table(found)}".lower()


def test_a_winner_on_dev_that_loses_on_test_is_named_so() -> None:
    data = collection()
    loser = {"dev": result(data, 0.2)["dev"], "test": result(data, -0.2)["test"]}
    found = told({"base": ArmRuns([result(data, 0)]), "hybrid": ArmRuns([loser], (0,))}, data)
    assert found.best == "hybrid"
    assert "On test, hybrid is not better than base." in found.sentence


@pytest.mark.parametrize(("optimism", "best"), [(0.0, "hybrid"), (0.2, "hybrid"), (0.5, "base")])
def test_an_arm_that_owes_its_lead_to_weights_chosen_on_dev_is_not_best(optimism: float, best: str) -> None:
    data = collection()
    training = [Training(1, 1.0, optimism=optimism)]
    winner = ArmRuns([result(data, 0.3)], (0,), training=training)
    found = told({"base": ArmRuns([result(data, 0)]), "hybrid": winner}, data)
    assert found.best == best
    assert ("gains nothing on the last fifth" in found.sentence) == (best == "base")


def test_names_of_arms_stand_as_they_are() -> None:
    data = collection()
    name = "hybrid@program=My.Module:MineIt"
    runs = {"base": ArmRuns([result(data, 0)]), "mined": ArmRuns([result(data, 0.2, seed=5)], (0,)),
            name: ArmRuns([result(data, 0.35, seed=6)], (0,), cost=Cost(500, 10, 10, 2.0))}  # fmt: skip
    found = told(runs, data)
    assert f"{name} is" in found.sentence
    assert "p = <" not in found.sentence
    assert found.worth is not None
    assert (found.worth.with_lm, found.worth.without_lm) == (name, "mined")
    gain = found.arms[name].test["ndcg@10"] - found.arms["mined"].test["ndcg@10"]
    assert found.worth.gain == pytest.approx(gain)
    assert found.worth.per_1000_calls == pytest.approx(gain * 2)
    assert found.worth.per_dollar == pytest.approx(gain / 2)
    assert f"Best on dev with an LM: {name}; without one: mined. The LM adds {gain:+.3f} on test" in found.sentence
    assert (
        f"{' '.join(second_table(found).split())} {found.sentence}".count("The LM adds") == 1
    )  # as a terminal shows them
    assert f"test/hybrid_x40program_x3DMy.Module_x3AMineIt/{'ndcg_10'}" in metrics(found)


def printed(found: Verdict, folder: Path) -> dict[str, str]:
    """The words that a user sees on the terminal, in verdict.json and on the page."""
    shown = show.verdict(RunFolder(folder), found.to_json())
    page = html.unescape(re.sub("<[^>]+>", " ", html_report(found, Evidence({}))))
    return {"console": " ".join(shown.split()), "json": found.to_json()["sentence"], "page": " ".join(page.split())}


@pytest.mark.parametrize(
    ("cost", "rates"),
    [
        (Cost(500, 10, 10, 2.0), "+{calls:.4f} per 1,000 calls, +{usd:.4f} per dollar"),
        (Cost(500, 10, 10, None), "+{calls:.4f} per 1,000 calls"),  # no price is known
    ],
)
def test_the_best_arms_with_and_without_an_lm_are_printed_everywhere(cost: Cost, rates: str, tmp_path: Path) -> None:
    data = collection()
    found = told({
        "base": ArmRuns([result(data, 0)]), "in-batch": ArmRuns([result(data, 0.1, seed=4)], (0,)),
        "mined": ArmRuns([result(data, 0.2, seed=5)], (0,)), "verified": ArmRuns([result(data, 0.22, seed=7)], (0,), cost=cost),
        "hybrid": ArmRuns([result(data, 0.35, seed=6)], (0,), cost=cost),
    }, data)  # fmt: skip
    gain = found.arms["hybrid"].test["ndcg@10"] - found.arms["mined"].test["ndcg@10"]
    wanted = "Best on dev with an LM: hybrid; without one: mined. "
    wanted += f"The LM adds {gain:+.3f} on test ({rates.format(calls=gain * 2, usd=gain / 2)})."
    assert all(text.count(wanted) == 1 for text in printed(found, tmp_path).values())


@pytest.mark.parametrize("calls", [500, 0])
@pytest.mark.parametrize(
    ("queries", "says"), [(60, "cannot be told from zero"), (12, "cannot be told from so few queries")]
)
def test_a_gain_that_may_be_chance_is_not_called_a_gain(queries: int, says: str, calls: int) -> None:
    data = collection(queries)
    found = told({"base": ArmRuns([result(data, 0)]), "mined": ArmRuns([result(data, 0.2, seed=5)], (0,)),
                  "hybrid": ArmRuns([result(data, 0.201, seed=6)], (0,), cost=Cost(calls, 10, 10, 2.0))}, data)  # fmt: skip
    row = found.against("mined", "hybrid")
    assert row is not None and not row.significant
    subject = "What the LM adds" if calls else "What the given texts or grades add"
    assert found.worth is not None
    numbers = f"{found.worth.gain:+.3f} [{row.interval[0]:+.3f}, {row.interval[1]:+.3f}]" if row.interval else ""
    ending = "" if row.p_holm is None else f", p = {row.p_holm:.4f}"
    assert f"{subject} on test {says}: {numbers}{ending}." in found.sentence
    assert not any(words in found.sentence for words in ("The LM adds", "given adds", "per 1,000 calls"))


def corrected(p: float, p_holm: float) -> Verdict:
    """A verdict whose every comparison has these p-values, and an interval without 0."""
    data = collection()
    found = told({"base": ArmRuns([result(data, 0)]), "mined": ArmRuns([result(data, 0.2, seed=5)], (0,)),
                  "hybrid": ArmRuns([result(data, 0.201, seed=6)], (0,), cost=Cost(5, 10, 10, 2.0))}, data)  # fmt: skip
    numbers = {"delta": 0.013, "interval": (0.001, 0.025), "p": p, "p_holm": p_holm, "significant": False}
    rows: list[Comparison] = [replace(row, **numbers) for row in found.comparisons]  # type: ignore[arg-type]
    return replace(found, best="hybrid", comparisons=tuple(rows))


def test_an_interval_without_0_that_holm_calls_chance_is_told_with_both_p_values() -> None:
    both = "p = 0.0900 after Holm's correction and 0.0300 before it"
    found = sentence(corrected(0.03, 0.09))
    assert f"+0.013 [+0.001, +0.025], no significant difference ({both}; " in found
    assert f"Hybrid is not significantly different from mined (+0.013 [+0.001, +0.025], {both})." in found
    assert re.search(rf"cannot be told from zero: \S+ \[\+0.001, \+0.025\], {both}\.", found)
    alone = sentence(corrected(0.06, 0.09))
    assert "Holm" not in alone and alone.count("p = 0.0900") == 3


def test_the_lm_is_not_credited_with_what_training_alone_gains_where_dev_tells_no_arm_apart() -> None:
    data = collection()
    dev, gained = result(data, 0.2)["dev"], result(data, 0.3)["test"]
    runs = {"base": ArmRuns([{"dev": dev, "test": result(data, 0)["test"]}]),
            "mined": ArmRuns([{"dev": dev, "test": gained}], (0,)),
            "hybrid": ArmRuns([{"dev": dev, "test": gained}], (0,), cost=Cost(5, 1, 1, 0.1))}  # fmt: skip
    found = told(runs, data)
    assert found.best == "base" and found.worth is not None
    assert (found.worth.with_lm, found.worth.without_lm, found.worth.gain) == ("hybrid", "mined", 0)
    assert "The LM adds" not in f"{second_table(found)} {found.sentence}"


def test_what_was_given_is_not_called_the_work_of_an_lm(tmp_path: Path) -> None:
    data = collection()
    found = told({"base": ArmRuns([result(data, 0)]), "mined": ArmRuns([result(data, 0.2, seed=5)], (0,)),
                  "hybrid": ArmRuns([result(data, 0.35, seed=6)], (0,), cost=Cost(0, 0, 0, 0.0))}, data)  # fmt: skip
    gain = found.arms["hybrid"].test["ndcg@10"] - found.arms["mined"].test["ndcg@10"]
    wanted = "Best on dev with given negatives or grades: hybrid; without any: mined. "
    wanted += f"What was given adds {gain:+.3f} on test."
    for text in printed(found, tmp_path).values():
        assert text.count(wanted) == 1
        assert "an LM" not in text and "The LM" not in text


def test_a_winner_on_dev_that_is_not_better_on_test_is_named_everywhere(tmp_path: Path) -> None:
    data = collection()
    loser = {"dev": result(data, 0.2)["dev"], "test": result(data, -0.2)["test"]}
    found = told({"base": ArmRuns([result(data, 0)]), "hybrid": ArmRuns([loser], (0,), cost=Cost(5, 1, 1, 0.1))}, data)
    for text in printed(found, tmp_path).values():
        assert "On test, hybrid is not better than base." in text
    assert "Best on dev with an LM: hybrid; without one: base." in printed(found, tmp_path)["console"]
    assert "Best on dev with an LM: hybrid; without one: base." in printed(found, tmp_path)["page"]
    assert found.to_json()["worth"]["without_lm"] == "base"


def test_reasons_stand_in_one_order_however_they_were_read() -> None:
    reasons = {"copies its parent": 2, "truncated": 2, "repeats the query": 5}
    turned = dict(reversed(reasons.items()))
    lines = [generation_line(Generation("p", "lm", 9, 9, 0, 0, order, 0, 0, 0.0)) for order in (reasons, turned)]
    assert lines[0] == lines[1]
    assert lines[0].endswith("rejected: repeats the query 5, copies its parent 2, truncated 2")


def test_a_set_without_judged_test_queries_says_so() -> None:
    data = collection(test=0)
    runs = {
        "base": ArmRuns([{"dev": result(data, 0)["dev"]}]),
        "mined": ArmRuns([{"dev": result(data, 0.1)["dev"]}], (0,)),
    }
    found = told(runs, data)
    assert "no judged test queries" in found.sentence
    assert "nan" not in f"{table(found)}{second_table(found)}{json.dumps(found.to_json())}".lower()


def test_the_boundary_is_paired_by_query_and_called_small() -> None:
    data = collection()
    base = {
        "accuracy": {f"t{i}": float(i % 2) for i in range(40)},
        "ndcg@10": dict.fromkeys((f"t{i}" for i in range(40)), 0.5),
    }
    better = {"accuracy": {q: min(1.0, v + 0.5) for q, v in base["accuracy"].items()}, "ndcg@10": base["ndcg@10"]}
    found = told({"base": ArmRuns([result(data, 0)], boundary=[base], near_misses=40),
                  "mined": ArmRuns([result(data, 0.1)], (0,), boundary=[better], near_misses=40)}, data,
                 Facts(no_boundary=""))  # fmt: skip
    row = found.comparisons[0]
    assert row.boundary_delta == pytest.approx(0.25)  # half of the queries gain .5
    assert row.boundary_interval is not None
    low, high = row.boundary_interval
    assert high - low < 0.2  # unpaired, the interval is about twice as wide
    small = "too small to tell differences under about 19 points: 40 near-misses (400 show 6 points)"
    assert small in boundary_note(found) and f"The boundary test is {small}." in found.sentence
    enough = told({"base": ArmRuns([result(data, 0)], boundary=[base], near_misses=400),
                   "mined": ArmRuns([result(data, 0.1)], (0,), boundary=[better], near_misses=400)}, data)  # fmt: skip
    assert "too small" not in boundary_note(enough) + enough.sentence


def test_the_boundary_is_told_against_mined_whatever_the_order_of_the_arms() -> None:
    data, queries = collection(), [f"t{i}" for i in range(40)]
    scored = {
        name: ArmRuns(
            [result(data, 0)], () if name == "base" else (0,), near_misses=400,
            boundary=[{"accuracy": {q: share + i % 2 / 10 for i, q in enumerate(queries)}, "ndcg@10": dict.fromkeys(queries, 0.5)}],
        )
        for name, share in {"base": 0.2, "in-batch": 0.3, "mined": 0.4, "hybrid": 0.6}.items()
    }  # fmt: skip
    note = boundary_note(told(scored, data))
    assert "against base: in-batch +0.100 [+0.100, +0.100], mined +0.200 [" in note and "hybrid +0.400 [" in note
    assert "against mined: in-batch -0.100 [-0.100, -0.100], hybrid +0.200 [+0.200, +0.200]" in note


def test_the_notes_name_the_lm_of_the_near_misses() -> None:
    data = collection()
    runs = {"base": ArmRuns([result(data, 0)]), "mined": ArmRuns([result(data, 0.1)], (0,))}
    wrote = Generation("q", "openai/a@http://x", 9, 9, 5, 5, {}, 9, 9, 0.0)
    for lm, said in (
        ("openai/a@http://x", "openai/a, the LM of the negatives, too,"),
        ("openai/b@http://x", "openai/b"),
    ):
        found = told(runs, data, Facts(generation=wrote, near_misses=NearMisses("p", lm, 3, 2)))
        assert f"written by p with {said} and put into the corpus" in " ".join(notes(found)), lm


def test_one_near_miss_is_one_and_shows_no_difference_at_all() -> None:
    data = collection()
    counts = {"program": "p", "lm": "m", "pairs": 1, "written": 1, "accepted": 1, "covered": 1, "reasons": {},
              "input_tokens": 1, "output_tokens": 2, "usd": None, "coverage": {}}  # fmt: skip
    one = {"accuracy": {"t0": 1.0}, "ndcg@10": {"t0": 0.5}}
    found = told({"base": ArmRuns([result(data, 0)], boundary=[one], near_misses=1),
                  "mined": ArmRuns([result(data, 0.1)], (0,), boundary=[one], near_misses=1)}, data,
                 Facts(near_misses=generation_of(counts), no_boundary=""))  # fmt: skip
    assert "boundary: 1 near-miss for 1 held-out query, written by p" in second_table(found).replace("\n", " ")
    assert "The boundary test is too small to tell any difference: 1 near-miss (400 show 6 points)." in found.sentence


def test_a_verdict_is_read_back_from_json() -> None:
    data = collection()
    counts = {"program": "p", "lm": "m", "pairs": 4, "written": 8, "accepted": 5, "covered": 4, "reasons": {"equal": 3},
              "input_tokens": 1, "output_tokens": 2, "usd": None, "coverage": {"length": {"short": [2, 1]}}}  # fmt: skip
    runs = {"base": ArmRuns([result(data, 0)]), "mined": shifted([0.1, 0.2], (3, 7), data)}
    found = told(runs, data, Facts(generation=generation_of(counts), source_probe={"length": 0.5}))
    again = Verdict.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    third = ArmRuns([result(data, 0.3)], (0,))
    kept = told({**runs, "alone": third}, data)
    assert [*Verdict.from_json(as_read(kept.to_json())).arms] == ["base", "mined", "alone"]  # as the run names them
    assert again.arms["mined"].test_by_seed.keys() == {3, 7}
    with pytest.raises(DataError, match=r"no verdict of this version: arms"):
        Verdict.from_json({**found.to_json(), "arms": 3})


def test_intervals_by_hand() -> None:
    assert paired_interval([0.1]) is None
    assert paired_interval([0.2, 0.2, 0.2]) == (0.2, 0.2)
    low, high = paired_interval([0.0, 1.0] * 50) or (0, 0)
    assert (low, high) == pytest.approx((0.4, 0.6), abs=0.02)  # .5 ± 1.96 * .05
    assert seed_interval([0.3]) is None
    assert detectable([0.1, 0.1], 0.05) is None
    assert detectable([0.0, 1.0] * 50, 0.05) == pytest.approx(0.5025 * (1.984 + 0.845) / 10, rel=0.01)


class Vectors:
    """Stands for an encoder: a random vector a text."""

    def encode(self, texts: Sequence[str], role: str) -> np.ndarray:
        return np.array([np.random.default_rng(abs(hash(text)) % 2**32).normal(size=8) for text in texts])


def test_the_source_probe_does_not_know_repeats() -> None:
    draw = random.Random(0)
    words = [f"w{i}" for i in range(60)]

    def text() -> str:
        return " ".join(draw.choices(words, k=20))

    pool = [text() for _ in range(40)]
    repeated = [pool[i % 40] for i in range(400)]
    found = source_probe([text() for _ in range(40)], repeated, Vectors(), seed=0)  # type: ignore[arg-type]
    assert found["ngrams"] < 0.75
    assert source_probe(["a b"] * 50, repeated, Vectors(), seed=0) == {}  # type: ignore[arg-type]


def test_the_page_escapes_foreign_text() -> None:
    data, planted = collection(), "<script>alert(1)</script>"
    row = {"query_id": "t1", "query": planted, "doc_id": "d", "text": planted, "accepted": False, "reason": "equal\"'><b>",
           "figure": 0.5, "threshold": 0.3, "figures": {"query_cosine": 0.4}, "attributes": {planted: planted}, "program": planted}  # fmt: skip
    name = f"hybrid@{planted}"
    found = told({"base": ArmRuns([result(data, 0)]), name: ArmRuns([result(data, 0.1)], (0,))}, data)
    page = html_report(found, Evidence(dict.fromkeys(data.queries, planted), [row, {**row, "accepted": True, "reason": ""}],
                                       positives={"d": planted}, settings={"a": {"b": planted}}, command=planted))  # fmt: skip
    assert planted not in page
    assert page.count("<script>") == 1
    assert "<b>" not in page
    assert "prefers-color-scheme:dark" in page
    assert page.count("<figure") == page.count("as a table") >= 3
    assert "src=" not in page
    assert "//" not in page.replace("http://www.w3.org", "")


def test_the_page_shows_settings_as_they_are_typed() -> None:
    data = collection()
    settings = {"mine": {"sources": ("dense", "bm25")}, "train": {"curriculum": False, "teacher": None}}
    page = html_report(told({"base": ArmRuns([result(data, 0)])}, data), Evidence({}, settings=settings))
    assert all(f">{text}<" in page for text in ("dense,bm25", "false"))
    assert "None" not in page


def test_the_page_shows_how_well_the_reader_read() -> None:
    data = collection()
    found = told({"base": ArmRuns([result(data, 0)])}, data)
    table = "measured on 40 dev queries\nrecall [0.80, 0.95] <"
    assert f"<h2>Reader</h2><pre>{html.escape(table)}</pre>" in html_report(found, Evidence({}, reader=table))
    assert "<h2>Reader</h2>" not in html_report(found, Evidence({}))


def test_cards_have_yaml_that_names_only_files_that_exist() -> None:
    import yaml

    data = collection()
    counts = {"program": "g.jsonl", "lm": "given", "pairs": 4, "written": 8, "accepted": 5, "covered": 4, "reasons": {},
              "input_tokens": 0, "output_tokens": 0, "usd": 0.0}  # fmt: skip
    found = told({"base": ArmRuns([result(data, 0)])}, data, Facts(generation=generation_of(counts)))
    config = {"encoder": {"model": "enc"}, "lm": {"model": "lm"}, "generate": {"given": "g.jsonl"}}
    card = data_card(found, config, ["negatives.jsonl", "mined.jsonl"])
    front = yaml.safe_load(card.split("---")[1])
    assert [row["data_files"] for row in front["configs"]] == ["negatives.jsonl", "mined.jsonl"]
    assert "written by an LLM" not in card
    assert "program.json" not in card
    assert "LM:" not in card
    assert "tokens" not in generation_line(found.generation)
    assert yaml.safe_load(model_card(found, config).split("---")[1])["library_name"] == "sentence-transformers"


def by_hand(dev: Sequence[float], data: Collection) -> ArmRuns:
    """An arm with one value for each dev query."""
    values = dict(zip(data.splits["dev"], dev, strict=True))
    known = result(data, 0)["test"]
    return ArmRuns([{"dev": SplitResult({}, dict.fromkeys(METRICS, values)), "test": known}], (0,))


def test_the_best_arm_on_dev_is_cross_fitted() -> None:
    data = collection(dev=40)
    base = by_hand([0.5] * 40, data)
    steady = by_hand([0.52] * 40, data)
    # ten arms, each far better on two queries and worse on the rest: which of them is best is chance
    up = {f"a{i}": by_hand([0.95 if q // 2 == i else 0.48 for q in range(40)], data) for i in range(10)}
    found = told({"base": base, **up}, data)
    assert found.choice is not None and found.choice.gain is not None
    assert (found.best, found.choice.top) == ("base", "a0") and found.choice.gain < 0
    assert "a0 has a higher nDCG@10 on dev, but what is best on four fifths" in found.sentence
    found = told({"base": base, **up, "steady": steady}, data)
    assert (found.best, found.choice and found.choice.gain) == ("steady", pytest.approx(0.02))
    assert Verdict.from_json(found.to_json()).choice == found.choice
