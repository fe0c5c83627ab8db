from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import ACTIONS, THINGS, FakeLM, write_negative

from syneg.cli.main import cli
from syneg.core.errors import DataError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows, write_rows
from syneg.run.pipeline import Run

NOWHERE = "http://127.0.0.1:9"


def result(line: dict[str, Any], content: str, status: int = 200) -> dict[str, Any]:
    """A line of results as the Batch API writes it."""
    body = {
        "choices": [{"message": {"content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 50, "completion_tokens": 9},
    }
    return {"custom_id": line["custom_id"], "response": {"status_code": status, "body": body}, "error": None}


def answered(
    requests: Path, results: Path, answer: Callable[[list[dict[str, Any]]], tuple[int, str]] = write_negative
) -> int:
    """Write the results of a batch file; returns how many."""
    lines = list(read_rows(requests))
    write_rows(results, [result(line, answer(line["body"]["messages"])[1]) for line in lines])
    return len(lines)


def generate(settings: Callable[..., list[str]], folder: Path, way: list[str], **more: Any) -> Any:
    values = settings(NOWHERE, **{"generate.pairs": 6, **more})
    flags = [part for value in values for part in ("--set", value)]
    return CliRunner().invoke(cli, ["generate", "--quiet", "--run", str(folder), *way, *flags], catch_exceptions=False)


def test_a_batch_goes_out_and_comes_back(
    settings: Callable[..., list[str]], tmp_path: Path, fake_lm: Callable[..., FakeLM]
) -> None:
    out, back = tmp_path / "out.jsonl", tmp_path / "back.jsonl"
    said = generate(settings, tmp_path / "run", ["--batch", "export", str(out)])
    assert "6 requests written" in said.output
    first = next(read_rows(out))
    assert (first["method"], first["url"], first["body"]["model"]) == ("POST", "/v1/chat/completions", "fake")
    assert first["body"]["messages"][0]["role"] == "system"
    assert "n" not in first["body"]
    answered(out, back)
    said = generate(settings, tmp_path / "run", ["--batch", "import", str(back)])
    assert "6 answers taken, 0 requests still without an answer" in said.output
    rows = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    assert [row["accepted"] for row in rows] == [True] * 6
    # the same answers, called for: the same negatives
    server = fake_lm(write_negative)
    live = Run(
        tmp_path / "live", load_config(None, settings(server.url, **{"generate.pairs": 6})), Progress(quiet=True)
    )
    live.until("generate")
    texts = [row["text"] for row in read_rows(tmp_path / "live" / "negatives.jsonl")]
    assert texts == [row["text"] for row in rows]


def test_a_program_of_two_steps_takes_two_passes(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        topic = f"queue {sum(map(ord, str(messages)))}"  # the second step does not see the query
        said = {
            "topic": topic,
            "hard_negative": "the queue is merged twice and counted slowly",
            "reasoning": "",
            "topics": [topic] * 3,
        }
        return 200, json.dumps(said)

    more = {"generate.program": "neighbour_topic", "lm.adapter": "json"}
    way, passes = ["--batch", "export", str(tmp_path / "out0.jsonl")], []
    for number in range(6):
        generate(settings, tmp_path / "run", way, **more)
        out = tmp_path / f"out{number}.jsonl"
        if not out.exists():
            break
        passes.append(answered(out, tmp_path / "back.jsonl", answer))
        way = [
            "--batch",
            "import",
            str(tmp_path / "back.jsonl"),
            "--batch",
            "export",
            str(tmp_path / f"out{number + 1}.jsonl"),
        ]
    assert passes[:2] == [6, 6]
    assert (tmp_path / "run" / "negatives.jsonl").exists()


def test_what_is_wrong_with_results_is_said(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    more: dict[str, Any] = {"lm.retries": 2}
    out, back = tmp_path / "out.jsonl", tmp_path / "back.jsonl"
    generate(settings, tmp_path / "run", ["--batch", "export", str(out)], **more)
    one, two, three, *_ = read_rows(out)
    good = result(one, write_negative(one["body"]["messages"])[1])
    write_rows(
        back,
        [
            good,
            good,
            {**good, "custom_id": "zzz"},
            result(two, "", 500),
            {"custom_id": three["custom_id"], "error": {"message": "expired"}},
        ],
    )
    again = tmp_path / "again.jsonl"
    said = generate(
        settings, tmp_path / "run", ["--batch", "import", str(back), "--batch", "export", str(again)], **more
    ).output
    assert "1 answer taken, 5 requests still without an answer" in said
    for part in ("1 unknown", "1 twice", "2 failed", "expired", f"5 requests written to {again}"):
        assert part in said
    write_rows(back, [{**good, "custom_id": "zzz"}])
    with pytest.raises(DataError, match="no answer to a request of this run"):
        generate(settings, tmp_path / "run", ["--batch", "import", str(back)])
    with pytest.raises(DataError, match="no such file"):
        generate(settings, tmp_path / "run", ["--batch", "import", str(tmp_path / "none")])


def test_blank_lines_are_nothing_and_a_refused_line_is_a_failed_attempt(
    settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    out, back, errors = tmp_path / "out.jsonl", tmp_path / "back.jsonl", tmp_path / "errors.jsonl"
    generate(settings, tmp_path / "run", ["--batch", "export", str(out)])
    first, *others = read_rows(out)
    lines = [json.dumps(result(line, write_negative(line["body"]["messages"])[1])) for line in others]
    back.write_text("\ufeff" + "\n\n".join(lines) + "\n\n{half a li\n", encoding="utf-8")
    refused = {"status_code": 400, "body": {"error": {"message": "content management policy"}}}
    errors.write_text(json.dumps({"custom_id": first["custom_id"], "response": refused}) + "\n\n")
    said = generate(
        settings, tmp_path / "run", ["--batch", "import", str(errors), "--batch", "export", str(out)]
    ).output
    assert "1 failed" in said
    assert first["custom_id"] not in {row["custom_id"] for row in read_rows(out)}  # it would be refused again
    said = generate(settings, tmp_path / "run", ["--batch", "import", str(back)]).output
    assert "5 answers taken, 0 requests still without an answer" in said
    rows = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    assert sorted(row["reason"] for row in rows) == ["", "", "", "", "", "refused by the endpoint"]


@pytest.mark.parametrize(
    ("message", "text", "error"),
    [
        ({"content": "the lock", "reasoning_content": "A lock?"}, "the lock", None),
        ({"content": "<think>A lock?</think>the lock"}, "the lock", None),
        ({"content": [{"type": "text", "text": "the "}, {"type": "text", "text": "lock"}]}, "the lock", None),
        ({"content": None, "reasoning_content": "A lock?"}, "", "the answer has thinking and no text"),
        ({"content": "", "refusal": "I cannot."}, "", "the LM refused: I cannot."),
        ({"content": ""}, "", "the answer is empty"),
    ],
)
def test_an_answer_of_a_batch_is_read_as_one_of_a_call(message: dict[str, Any], text: str, error: str | None) -> None:
    from syneg.llm.batch_files import _answered

    usage = {"prompt_tokens": 50, "completion_tokens": 9}
    line = {
        "response": {
            "status_code": 200,
            "body": {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage},
        }
    }
    row = _answered(line, {"key": "k"}, "openai/gpt-4o-mini")
    assert (row["answer"], row["error"], row["input_tokens"]) == (text, error, 50)
    assert row.get("thinking") == ("A lock?" if "A lock?" in str(message) else None)


def strong(settings: Callable[..., list[str]], **more: Any) -> list[str]:
    """A run whose program goes by the strength of its LM, and that wants a judge."""
    return settings(NOWHERE, **{"generate.program": "auto", "judge.use": "auto", "generate.pairs": 6, **more})


def test_an_export_tests_nothing_and_writes_no_test_first(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    out, flags = tmp_path / "out.jsonl", [part for value in strong(settings) for part in ("--set", value)]
    way = ["generate", "--run", str(tmp_path / "run"), "--batch", "export", str(out)]
    said = CliRunner().invoke(cli, [*way, *flags], catch_exceptions=False)
    assert "is taken as strong" in " ".join(said.output.split())
    prompts = [str(line["body"]["messages"]) for line in read_rows(out)]
    queries = {f"{action} a {thing}" for thing in THINGS for action in ACTIONS}
    assert all(any(query in prompt for query in queries) for prompt in prompts)  # no test of strength
    writes = ["Judge whether" not in prompt for prompt in prompts]
    assert writes == [True] * 6 + [False] * (len(writes) - 6)
    assert len(writes) > 6  # the judge's calibration comes along
    ledger = tmp_path / "run" / "ledger" / "calls.jsonl"
    assert not list(read_rows(ledger))


def test_several_files_are_taken_at_once(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    out, parts = tmp_path / "out.jsonl", [tmp_path / f"{part}.jsonl" for part in ("one", "two", "errors")]
    generate(settings, tmp_path / "run", ["--batch", "export", str(out)])
    lines = list(read_rows(out))
    for path, own in zip(parts, (lines[:3], lines[3:5], lines[5:]), strict=True):
        status = 400 if path.stem == "errors" else 200
        write_rows(path, [result(line, write_negative(line["body"]["messages"])[1], status) for line in own])
    way = [part for path in parts for part in ("--batch", "import", str(path))]
    said = generate(settings, tmp_path / "run", way).output
    assert "5 answers taken, 0 requests still without an answer" in said
    assert "1 failed" in said
    with pytest.raises(DataError, match="no such file"):
        generate(settings, tmp_path / "run", [*way, "--batch", "import", str(tmp_path / "none.jsonl")])


def test_what_fails_for_the_moment_is_asked_again_up_to_the_limit(
    settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    out, back, more = tmp_path / "out.jsonl", tmp_path / "back.jsonl", {"lm.retries": 1, "generate.attempts": 1}
    generate(settings, tmp_path / "run", ["--batch", "export", str(out)], **more)
    (key, *_), way = [row["custom_id"] for row in read_rows(out)], ["--batch", "import", str(back)]
    for turn in range(2):
        lines = list(read_rows(out))
        good = [result(line, write_negative(line["body"]["messages"])[1]) for line in lines if line["custom_id"] != key]
        expired = {"custom_id": key, "response": None, "error": {"code": "batch_expired", "message": "expired"}}
        write_rows(back, [*good, result(lines[0], "", 503) if turn else expired])
        said = generate(settings, tmp_path / "run", [*way, "--batch", "export", str(out)], **more).output
        if not turn:
            assert [row["custom_id"] for row in read_rows(out)] == [key]
    assert "failed 2 times" in said
    rows = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    assert sum(row["accepted"] for row in rows) == 5
    assert len(rows) == 6


def test_a_batch_costs_what_the_table_says_of_batches(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    from syneg.llm.prices import batch_dollars, dollars

    assert batch_dollars("openai/gpt-4o-mini", 1000, 100) == pytest.approx(
        0.5 * (dollars("openai/gpt-4o-mini", 1000, 100) or 0)
    )
    assert batch_dollars("openai/fake", 1000, 100) is None
    out, back, more = tmp_path / "out.jsonl", tmp_path / "back.jsonl", {"lm.model": "openai/gpt-4o-mini"}
    said = generate(settings, tmp_path / "run", ["--batch", "export", str(out)], **more).output
    assert "at most" in said
    answered(out, back)
    generate(settings, tmp_path / "run", ["--batch", "import", str(back)], **more)
    rows = list(read_rows(tmp_path / "run" / "ledger" / "calls.jsonl"))
    assert [row["usd"] for row in rows] == [pytest.approx(50 * 7.5e-8 + 9 * 3e-7)] * 6
    said = generate(settings, tmp_path / "other", ["--batch", "export", str(out)], **more, **{"budget.calls": 4}).output
    assert "4 requests written" in said
    assert "the budget is spent" in said
