"""The whole path on a small collection, through litellm and a real HTTP server, with a real (tiny) encoder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import THINGS, FakeLM, write_negative
from started import Started

from syneg.core.errors import BackendError, DataError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import Log, disk_error, read_json, read_rows
from syneg.retrieval.embedding_cache import spaces
from syneg.run.pipeline import Run
from syneg.training import trainer
from syneg.verdict.records import Verdict
from syneg.verdict.report import second_table, table

Settings = Callable[..., list[str]]


def run(folder: Path, overrides: list[str], stage: str = "verdict") -> dict[str, Any]:
    return Run(folder, load_config(None, overrides), Progress(quiet=True)).until(stage)


REMADE = ("bad_rows.jsonl", "events.jsonl")  # by each command


def cli(*args: str, cwd: Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "syneg", *args], cwd=cwd, capture_output=True, text=True, **kwargs)


def flags(overrides: list[str]) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def test_a_run_comes_to_a_verdict_and_a_second_one_does_nothing_twice(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm()
    folder = tmp_path / "run"
    found = run(folder, settings(server.url))
    assert list(found["arms"]) == ["base", "mined", "hybrid"]
    assert found["best"] in found["arms"]
    assert found["best"] == max(found["arms"], key=lambda arm: found["arms"][arm]["dev"]["ndcg@10"])
    assert found["arms"]["mined"]["training"][0]["steps"] == found["arms"]["hybrid"]["training"][0]["steps"] > 0
    assert found["arms"]["hybrid"]["training"][0]["synthetic_share"] == pytest.approx(1 / 3, abs=0.15)
    assert len(found["comparisons"]) == 3
    for name in ("config.toml", "manifest.json", "mined.jsonl", "negatives.jsonl", "ledger/calls.jsonl", "program.json",
                 "program.md", "verdict.json", "report.html", "README.md", "best/modules.json", "runs/hybrid-0.test.trec"):  # fmt: skip
        assert (folder / name).stat().st_size, name
    for row in read_rows(folder / "negatives.jsonl"):
        assert row["lm"] == f"openai/fake@{server.url}"
        assert row["calls"]
        assert row["usd"] is None
    before = {path: path.stat().st_mtime_ns for path in folder.glob("**/*.jsonl")}
    models = {path: path.stat().st_mtime_ns for path in (folder / "models").glob("**/*.safetensors")}
    calls = len(server.requests)
    again = run(folder, settings(server.url))
    assert again["arms"] == found["arms"]
    assert len(server.requests) == calls
    assert {path: path.stat().st_mtime_ns for path in folder.glob("**/*.jsonl") if path.name not in REMADE} == {
        path: at for path, at in before.items() if path.name not in REMADE
    }
    assert {path: path.stat().st_mtime_ns for path in (folder / "models").glob("**/*.safetensors")} == models
    for path in folder.glob("**/*"):
        assert path.is_dir() or b"sk-planted-secret-key" not in path.read_bytes(), path


def test_a_changed_input_is_never_answered_from_before(
    tmp_path: Path, beir: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm()
    folder = tmp_path / "run"
    first = run(folder, settings(server.url))
    calls = len(server.requests)
    corpus = (beir / "corpus.jsonl").read_text()
    (beir / "corpus.jsonl").write_text(corpus.replace("slowly", "twice"))
    second = run(folder, settings(server.url))
    assert second["fingerprint"] != first["fingerprint"]
    assert len(server.requests) > calls
    assert all("slowly" not in row["text"] for row in read_rows(folder / "mined.jsonl"))
    third = run(folder, settings(server.url, **{"train.learning_rate": 0.5}))
    assert third["arms"]["mined"] != second["arms"]["mined"]
    assert third["arms"]["base"] == second["arms"]["base"]


def test_without_a_hybrid_arm_no_lm_is_needed(tmp_path: Path, settings: Settings) -> None:
    header = '{extra_headers = {X-Api-Key = "planted-gateway-key"}}'
    more = {"train.arms": json.dumps(["mined"]), "lm.extra": header}
    found = run(tmp_path / "run", settings("http://127.0.0.1:9/v1", **more))
    assert list(found["arms"]) == ["base", "mined"]
    assert found["generation"] is None
    assert "No arm of this run uses synthetic" in (tmp_path / "run" / "report.html").read_text()
    for path in (tmp_path / "run").glob("**/*"):
        assert path.is_dir() or b"planted-gateway-key" not in path.read_bytes(), path


def test_all_arms_train_and_interpolation_is_chosen_on_dev(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    arms = ["in-batch", "bm25", "mined", "synthetic", "dataset-mix", "hybrid"]
    more = {
        "train.arms": json.dumps(arms),
        "train.evals": 1,
        "train.alphas": [0.0, 0.5, 1.0],
        "train.guide": 0.95,
        "mix.weight": 0.5,
    }
    found = run(tmp_path / "run", settings(fake_lm().url, **more))
    assert list(found["arms"]) == ["base", *arms]
    assert len({found["arms"][arm]["training"][0]["steps"] for arm in arms}) == 1
    shares = {arm: found["arms"][arm]["training"][0]["synthetic_share"] for arm in arms}
    assert shares["in-batch"] == shares["bm25"] == shares["mined"] == 0
    assert shares["synthetic"] == 1
    both, alone = (list(read_rows(tmp_path / "run" / f"{name}.jsonl")) for name in ("mined", "mined-bm25"))
    assert {row["source"] for row in alone} == {"bm25"}
    assert len(alone) > 1.5 * sum(row["source"] == "bm25" for row in both)  # passages that the encoder finds, too
    base = found["arms"]["base"]["dev"]["ndcg@10"]
    for arm in arms:
        scores = dict(found["arms"][arm]["training"][0]["alphas"])
        assert list(scores) == [0.0, 0.5, 1.0]
        assert found["arms"][arm]["dev"]["ndcg@10"] == pytest.approx(max(scores.values()), abs=1e-6)
        assert scores[0.0] == pytest.approx(base, abs=1e-6)  # so no arm can be worse than base on dev
    assert all(
        len(line) <= 80
        for line in f"{table(Verdict.from_json(found))}\n{second_table(Verdict.from_json(found))}".splitlines()
    )


def test_several_seeds_are_averaged(tmp_path: Path, settings: Settings) -> None:
    more = {"train.arms": '["mined"]', "train.seeds": [0, 1], "train.evals": 1}
    found = run(tmp_path / "run", settings("http://127.0.0.1:9/v1", **more))
    assert found["arms"]["mined"]["seeds"] == 2
    assert spaces() and not [space for space in spaces() if space.trained]  # no corpus for each of two models
    one, two = found["arms"]["mined"]["test_by_seed"].values()
    assert found["arms"]["mined"]["test"]["ndcg@10"] == pytest.approx((one + two) / 2)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda m: (200, "certainly! here you are"), "no usable negative .*unparseable answer"),
        (lambda m: (200, '{"hard_negative": "short"}'), "no usable negative .*empty or too short"),
        (
            lambda m: (200, '{"hard_negative": "the lock is merged twice and', "length"),
            "no usable negative .*(truncated|unparseable)",
        ),
        (lambda m: (500, "out of order"), "failed 8 times in a row"),
    ],
)
def test_a_hopeless_lm_stops_the_run_with_everything_kept(
    answer: Any, says: str, tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    with pytest.raises(BackendError, match=says):
        run(tmp_path / "run", settings(fake_lm(answer).url), "generate")
    assert list(read_rows(tmp_path / "run" / "ledger" / "calls.jsonl"))


def test_an_unreachable_lm_says_so(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    with pytest.raises(BackendError, match="failed 8 times in a row.*check the endpoint"):
        run(tmp_path / "run", settings("http://127.0.0.1:9/v1"), "generate")


def test_without_an_accepted_negative_the_other_arms_are_compared(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    none = {"gates.length_low": 99, "generate.pairs": 4}
    found = run(tmp_path / "run", settings(fake_lm().url, **none))
    assert list(found["arms"]) == ["base", "mined"]
    assert found["left_out"] == ["hybrid"]
    said = (tmp_path / "run" / "events.jsonl").read_text()
    assert (
        said.count(
            "hybrid is left out: the gates accepted no synthetic negative (far shorter than positive or corpus 8)"
        )
        == 1
    )
    with pytest.raises(DataError, match="accepted no synthetic negative .far shorter than positive or corpus 8"):
        run(tmp_path / "alone", settings(fake_lm().url, **none, **{"train.arms": json.dumps(["hybrid"])}))
    assert not (tmp_path / "alone" / "models").exists()


def test_a_changed_prompt_never_meets_an_old_model(tmp_path: Path, settings: Settings) -> None:
    values = {"train.arms": json.dumps(["in-batch"]), "train.evals": 1}
    prompts = {"encoder.query_prompt": "close socket", "encoder.passage_prompt": "merge merge"}
    first = run(tmp_path / "a", settings("http://127.0.0.1:9/v1", **values))
    changed = run(tmp_path / "a", settings("http://127.0.0.1:9/v1", **values, **prompts))
    fresh = run(tmp_path / "b", settings("http://127.0.0.1:9/v1", **values, **prompts))
    assert changed["arms"]["in-batch"]["test"] == fresh["arms"]["in-batch"]["test"] != first["arms"]["in-batch"]["test"]


def test_a_job_can_be_launched_by_hand(tmp_path: Path, settings: Settings) -> None:
    from syneg.training.__main__ import main

    values = settings("http://127.0.0.1:9/v1", **{"train.arms": json.dumps(["mined"]), "train.processes": 0})
    with pytest.raises(BackendError, match="torchrun --nproc_per_node N -m syneg.training .*models/mined-0"):
        run(tmp_path / "run", values)
    main([tmp_path / "run" / "models" / "mined-0"])
    assert list(run(tmp_path / "run", values)["arms"]) == ["base", "mined"]


def test_bad_pairs_are_kept_with_their_reason(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        return (200, "no JSON at all") if "socket" in messages[-1]["content"] else write_negative(messages)

    run(tmp_path / "run", settings(fake_lm(answer).url), "generate")
    rows = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    bad = [row for row in rows if row["reason"]]
    assert {row["reason"] for row in bad if "socket" in row["query"]} == {"unparseable answer"}
    assert all(row["attempt"] in (0, 1) for row in bad)
    assert any(row["accepted"] for row in rows)


def killed(args: list[str], cwd: Path, after: Callable[[], bool]) -> None:
    process = Started(args, cwd)
    deadline = time.monotonic() + 300  # a busy machine is slow
    while not after() and process.running and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()


def test_kill_9_in_generation_and_resume_equals_an_uninterrupted_run(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm(lambda messages: (time.sleep(0.005), write_negative(messages))[1])
    overrides = settings(server.url, **{"lm.concurrency": 2})
    run(tmp_path / "whole", overrides, "generate")
    for rows in (1, 18, 40):
        name = f"killed{rows}"
        ledger = tmp_path / name / "ledger" / "calls.jsonl"
        killed(
            ["generate", "--run", name, *flags(overrides)], tmp_path,
            lambda path=ledger, least=rows: path.exists() and path.read_bytes().count(b"\n") >= least,
        )  # fmt: skip
        kept = ledger.read_bytes().count(b"\n")
        asked = len(server.requests)
        run(tmp_path / name, overrides, "generate")
        total = len(list(read_rows(ledger)))
        assert rows <= kept < total
        assert len({row["key"] for row in read_rows(ledger)}) == total
        assert len(server.requests) - asked == total - kept  # what was answered was not asked again
        written = (tmp_path / name / "negatives.jsonl").read_bytes()
        assert written == (tmp_path / "whole" / "negatives.jsonl").read_bytes()


def test_kill_9_in_training_and_resume(tmp_path: Path, settings: Settings) -> None:
    overrides = settings("http://127.0.0.1:9/v1", **{"train.arms": '["mined"]', "train.epochs": 30, "train.evals": 15})
    checkpoints = tmp_path / "killed" / "models" / "mined-0" / "checkpoints"
    killed(
        ["train", "--run", "killed", *flags(overrides)],
        tmp_path,
        lambda: any(read_json(path) for path in checkpoints.glob("checkpoint-*/trainer_state.json")),
    )
    assert not (tmp_path / "killed" / "models" / "mined-0" / "training.json").exists()
    found = run(tmp_path / "killed", overrides)
    whole = run(tmp_path / "whole", overrides)
    assert found["arms"]["mined"]["training"][0]["resumed"]
    assert not whole["arms"]["mined"]["training"][0]["resumed"]
    assert found["arms"]["mined"]["test"] == pytest.approx(whole["arms"]["mined"]["test"], abs=0.05)


def test_what_a_kill_left_beside_a_whole_model_goes_when_the_command_is_run_again(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = settings("http://127.0.0.1:9/v1", **{"train.arms": '["mined"]', "train.epochs": 1, "train.evals": 1})
    model, tidy = tmp_path / "r" / "models" / "mined-0", trainer.tidy
    monkeypatch.setattr(trainer, "tidy", lambda folder: (folder / "job.json").write_text("{}"))
    run(tmp_path / "r", overrides, "train")
    assert (model / "checkpoints").is_dir()
    monkeypatch.setattr(trainer, "tidy", tidy)
    run(tmp_path / "r", overrides, "train")
    assert (model / "training.json").is_file()
    assert not (model / "checkpoints").exists() and not (model / "job.json").exists()


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")]
)
def test_ctrl_c_and_sigterm_say_how_to_go_on(
    number: int, code: int, word: str, tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm(lambda messages: (time.sleep(0.5), write_negative(messages))[1])
    args = ["generate", "--run", "r", *flags(settings(server.url))]
    process = Started(args, tmp_path)
    while len(server.requests) < 3 and process.running:
        time.sleep(0.02)
    process.send(number)
    assert process.wait(60) == code
    assert f"{word}. Nothing is lost; resume with: syneg-dspy generate --run r" in process.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_the_last_message_whole(number: int) -> None:
    code = (
        "import os, signal; from syneg.cli import main as m; show = m.show\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"m.show = lambda text, err: (os.kill(os.getpid(), {int(number)}), show(text, err=err))\n"
        "def stopped(**_): raise KeyboardInterrupt\n"
        "m.cli = stopped; m.main()"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert ended.returncode == 130
    assert "Traceback" not in ended.stderr and "Interrupted. Nothing is lost; resume with:" in ended.stderr


def cpu_seconds(command: list[str], cwd: Path) -> tuple[float, str]:
    """CPU seconds of a process, which a busy machine stretches far less than it does the wait for them; its stdout."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


@pytest.mark.parametrize("command", ["", "run", "mine", "generate", "train", "evaluate", "fetch"])
def test_help_is_quick(command: str, tmp_path: Path) -> None:
    limit = 0.3 if command in ("", "fetch") else 0.5  # the flags of a stage are read from the settings, by pydantic
    for _ in range(6):
        spent, said = cpu_seconds([sys.executable, "-m", "syneg", *command.split(), "--help"], tmp_path)
        assert max(map(len, said.splitlines())) <= 80
        bare, _ = cpu_seconds([sys.executable, "-c", "import click, pydantic"], tmp_path)
        if spent < max(limit, 4 * bare):  # a slow or busy machine slows both
            return
    pytest.fail(f"{spent:.2f} s of CPU, and {bare:.2f} s for click and pydantic alone")


def test_errors_are_one_line_with_a_code(tmp_path: Path) -> None:
    for args, code, says in (
        (["run", "--set", "train.epoch=2"], 2, "did you mean 'train.epochs'"),
        (["run", "--dataset", "nowhere.csv"], 1, "no such file or folder"),
        (["run", "--nope"], 2, "No such option"),
        (["fetch", "local/qwen"], 2, "did you mean 'local/qwen2.5-coder-1.5b'"),
    ):
        done = cli(*args, cwd=tmp_path)
        assert (done.returncode, says in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr
    assert "Traceback" in cli("run", "--dataset", "nowhere.csv", "--debug", cwd=tmp_path).stderr


def test_json_goes_to_stdout_alone(tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]) -> None:
    done = cli("mine", "--json", "--run", "r", *flags(settings(fake_lm().url)), cwd=tmp_path, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["queries"] > 10


def test_a_full_disk_ends_in_one_line_and_the_rest_is_kept(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    args = ["--run", "r", *flags(settings(fake_lm().url))]
    assert Started(["mine", *args], tmp_path).wait() == 0
    done = Started(["generate", *args], tmp_path, file_limit=8_000)
    assert done.wait() == 1
    assert "File too large; what was written is kept" in done.stderr
    assert "Traceback" not in done.stderr
    ledger = tmp_path / "r" / "ledger" / "calls.jsonl"
    Log(ledger).close()  # another thread may have been in the middle of a row when the process ended
    kept = list(read_rows(ledger))
    assert len(kept) > 5
    assert Started(["generate", *args], tmp_path).wait() == 0
    assert list(read_rows(ledger))[: len(kept)] == kept


def test_the_boundary_test_stands_in_the_verdict(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server, other = fake_lm(), fake_lm()
    more = {"boundary.queries": 9, "boundary.model": "openai/other", "boundary.api_base": other.url, "boundary.program": "no_reflection", "train.seeds": [0, 1], "train.arms": '["mined", "hybrid", "hybrid@ratio=1.0@seeds=1"]'}  # fmt: skip
    found = run(tmp_path / "run", settings(server.url, **more))
    assert found["near_misses"]["program"] == "no_reflection"
    assert 0 < found["near_misses"]["covered"] <= 9
    assert found["near_misses"]["lm"].startswith("openai/other@") and {r["model"] for r in other.requests} == {"other"}
    assert found["generation"]["lm"].startswith("openai/fake@") and {r["model"] for r in server.requests} == {"fake"}
    held_out = {row["query_id"] for row in read_rows(tmp_path / "run" / "near-misses.jsonl")}
    assert not held_out & {row["query_id"] for row in read_rows(tmp_path / "run" / "mined.jsonl")}
    for arm in ("base", "mined", "hybrid", "hybrid@ratio=1.0@seeds=1"):
        low, high = found["arms"][arm]["boundary"]["accuracy_interval"]
        assert 0 <= low <= found["arms"][arm]["boundary"]["accuracy"] <= high <= 1
        assert found["arms"][arm]["boundary"]["ndcg@10"] <= 1
    text = second_table(Verdict.from_json(found))
    assert "near-misses for" in text
    assert "gradient share of synthetic in hybrid" in text
    assert max(map(len, f"{text}\n{table(Verdict.from_json(found))}".splitlines())) <= 100
    by_pair = {(c["a"], c["b"]): c for c in found["comparisons"]}
    low, high = by_pair["mined", "hybrid"]["seed_interval"]
    by_seed = {arm: found["arms"][arm]["test_by_seed"] for arm in ("mined", "hybrid")}
    differences = [by_seed["hybrid"][seed] - by_seed["mined"][seed] for seed in ("0", "1")]
    assert (low + high) / 2 == pytest.approx(sum(differences) / 2)
    assert (high - low) / 2 == pytest.approx(12.7062 * abs(differences[0] - differences[1]) / 2, rel=1e-4)  # t(.975, 1)
    assert by_pair["hybrid", "hybrid@ratio=1.0@seeds=1"]["seed_interval"] is None  # one seed in common
    assert found["arms"]["hybrid"]["seed_interval"]
    assert found["arms"]["base"]["seed_interval"] is None
    for row in found["arms"]["hybrid"]["training"]:
        assert sum(row["shares"][0].values()) == pytest.approx(1, abs=0.01)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "gained most" in page or found["best"] == "base"
    assert "Difference to the base" in page
    assert "tell" in found["sentence"]  # 24 test queries tell nothing
    assert all(row["p"] is None and not row["significant"] for row in found["comparisons"])


def test_the_boundary_test_is_large_or_grows_with_the_run(tmp_path: Path, settings: Settings) -> None:
    def wanted(**more: object) -> int:
        config = load_config(None, settings("http://127.0.0.1:9", **more))
        return Run(tmp_path / "run", config, Progress(quiet=True)).workspace.boundary_queries

    auto = {"boundary.queries": "auto"}
    assert [wanted(**auto, **{"generate.pairs": pairs}) for pairs in (5, 30, 0)] == [500, 500, 500]
    embedded = {**auto, "lm.model": "local/smollm2-135m"}
    assert [wanted(**embedded, **{"generate.pairs": pairs}) for pairs in (5, 30, 0)] == [16, 30, 58]
    assert wanted(**embedded, **{"boundary.model": "openai/other"}) == 500
    assert wanted(**{"boundary.queries": 7}) == 7


def test_given_near_misses_are_those_of_other_programs(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "given.jsonl"
    rows = [
        {"query_id": f"q{i}", "text": f"the {THINGS[i % 12]} is {text} and counted slowly", "program": program}
        for i in range(96)
        for program, text in (("trained", "merged twice"), ("other", "flush again"))
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    more = {"generate.given": str(path), "boundary.queries": 5}
    found = run(tmp_path / "run", settings("http://127.0.0.1:9/v1", **{**more, "generate.program": "trained"}))
    assert {row["program"] for row in read_rows(tmp_path / "run" / "near-misses.jsonl")} == {"other"}
    assert found["near_misses"]["covered"] > 5  # all that were given
    all_of_them = run(tmp_path / "all", settings("http://127.0.0.1:9/v1", **{**more, "generate.program": "auto"}))
    assert "no boundary test: the file has to name programs" in second_table(Verdict.from_json(all_of_them))


def test_an_ablation_is_the_same_path_with_other_arms(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm()
    done = Started(["ablate", "mix", "--run", "run", "--json", *flags(settings(server.url))], tmp_path)
    assert done.wait(300) == 0, done.stderr
    assert set(json.loads(done.stdout)["arms"]) == {"base", "mined", "synthetic", "dataset-mix", "hybrid"}
    wrong = cli("ablate", "ratoi", cwd=tmp_path)
    assert (wrong.returncode, "did you mean 'ratio'" in wrong.stderr) == (2, True)


def test_a_grounded_arm_trains_on_real_passages_near_written_texts(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    more = {
        "train.arms": '["mined", "grounded"]',
        "train.evals": 1,
        "mix.negatives": 2,
        "mix.ratio": 1.0,
        "mine.margin": 10,
    }
    found = run(tmp_path / "run", settings(fake_lm().url, **more))
    rows = {arm: list(read_rows(tmp_path / "run" / "rows" / f"{arm}-0.jsonl")) for arm in ("mined", "grounded")}
    sources = Counter(source for row in rows["grounded"] for source in row["sources"])
    assert sources["grounded"] > 0 and not sources["synthetic"]
    corpus = {row["_id"]: row["text"] for row in read_rows(Path(tmp_path / "beir" / "corpus.jsonl"))}
    for row in rows["grounded"]:
        assert len(set(row["doc_ids"])) == len(row["doc_ids"])
        assert all(corpus[doc_id] == text for doc_id, text in zip(row["doc_ids"], row["negatives"], strict=True))
    assert found["arms"]["grounded"]["calls"] > 0 and found["worth"]["with_lm"] == "grounded"


def test_a_full_disk_while_a_model_is_saved_is_one_line_and_the_command_resumes(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    args = ["train", "--run", "r", *flags(settings(fake_lm().url, **{"train.arms": '["mined"]'}))]
    assert Started(args, tmp_path).wait() == 0
    shutil.rmtree(tmp_path / "r" / "models")
    done = Started(args, tmp_path, file_limit=6_000)  # the weights of the tiny encoder have more bytes
    assert done.wait() == 1
    assert "error: File too large; what was written is kept; run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert Started(args, tmp_path).wait() == 0
    assert (tmp_path / "r" / "models" / "mined-0" / "training.json").is_file()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed writing file data/0: file write failed"),
        Exception("No space left on device (os error 28)"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
        OSError("1000000 requested and 524256 written"),
    ],
    ids=["torch", "tokenizers", "shutil", "pyarrow", "numpy"],
)  # fmt: skip
def test_a_full_disk_is_known_by_the_error_of_any_library(error: Exception) -> None:
    found = disk_error(error)
    assert found is not None
    assert found.errno == errno.ENOSPC


def test_errors_that_are_not_of_the_disk_stay_what_they_are() -> None:
    assert disk_error(ValueError("no such thing (os error 2)")) is None
    assert disk_error(OSError("a message alone")) is None


def test_a_perfect_encoder_is_said_before_training(
    tmp_path: Path, beir: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    queries = list(read_rows(beir / "queries.jsonl"))
    same = [{"_id": f"d{number}", "text": row["text"]} for number, row in enumerate(queries)]
    (beir / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in same))
    server = fake_lm()
    run(tmp_path / "run", settings(server.url, **{"train.arms": '["mined"]', "mine.margin": 2.0}))
    said = (tmp_path / "run" / "events.jsonl").read_text()
    assert "the untuned encoder ranks every query of dev and test perfectly: nothing can be gained" in said
    assert said.index("ranks every query") < said.index('"stage": "train"')
