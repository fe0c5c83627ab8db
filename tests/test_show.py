from __future__ import annotations

from pathlib import Path

from syneg.run import show
from syneg.run.folder import RunFolder


def test_trainings_and_evaluations_are_tables_on_a_terminal(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    made = {
        "steps": 12,
        "seconds": 30.4,
        "synthetic_share": 0.25,
        "dev": [[6, 0.4], [12, 0.41]],
        "alphas": [[0.5, 0.42]],
    }
    plain = {"steps": 12, "seconds": 9.0, "synthetic_share": 0.0, "dev": [], "alphas": []}
    assert show.trained(folder, {"hybrid-0": made, "in-batch-0": plain}).splitlines() == [
        "model       steps  seconds  synthetic  dev nDCG@10",
        "hybrid-0       12       30        25%       0.4200",
        "in-batch-0     12        9         0%            -",
        f"models: {tmp_path / 'models'}",
    ]
    seeds = [{"test": {"ndcg@10": 0.4, "mrr@10": 0.5}}, {"test": {"ndcg@10": 0.6, "mrr@10": 0.5}}]
    assert show.evaluated(folder, {"base": seeds[:1], "mined": seeds}).splitlines() == [
        "arm    seeds  split  ndcg@10  mrr@10",
        "base       1   test   0.4000  0.5000",
        "mined      2   test   0.5000  0.5000",
        f"rankings: {tmp_path / 'runs'}",
    ]


def test_the_prose_of_a_compilation_is_wrapped_and_its_diff_is_not(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    change = "+" + "one long instruction, " * 6
    prose = (
        "Full training, confirm split: nDCG@10 0.4120 with candidate 2, the best, 0.4050 with the program as it was."
    )
    reason = (
        "No difference is shown. An accepted negative takes 1,200 tokens with the candidate and 900 with the other."
    )
    table = f"| `compile.pairs` | {'x' * 40} | {'y' * 40} |"
    page = f"# Compiled by search\n\n{prose}\n{reason}\n\n## write\n\n```diff\n{change}\n```\n\n{table}\n\n## Candidates\n\nall"
    folder.prompts("").write_text(page)
    lines = show.compiled(folder, {"target": "writer"}).splitlines()
    assert change in lines and table in lines
    assert max(len(line) for line in lines if line not in (change, table, *lines[-3:])) <= 80
    assert f"{prose} {reason}" in " ".join(lines) and "all" not in lines
    assert lines[:2] == ["# Compiled by search", ""] and lines[-3] == f"program: {folder.program('')}"


def test_no_name_is_cut_where_a_line_ends(tmp_path: Path) -> None:
    counts = {"program": "neighbour_rewrite", "pairs": 1, "written": 1, "accepted": 1, "covered": 1, "input_tokens": 1,
              "reasons": {}, "output_tokens": 2, "usd": None}  # fmt: skip
    names = [f"{'x' * length}/some-chat-model" for length in range(1, 60)]
    for name in names:
        assert name in show.generated(RunFolder(tmp_path), {**counts, "lm": name})


def test_queries_of_the_user_are_counted_only_if_there_are_some(tmp_path: Path) -> None:
    counts = {"accepted": 7, "written": 9, "kinds": {"a question": 7}, "splits": {"train": 5, "test": 2}}
    for yours, said in ((0, "; splits: train 5, test 2."), (3, "; with your 3: train 5, test 2.")):
        assert said in " ".join(show.queries(RunFolder(tmp_path), {**counts, "yours": yours}).split())
