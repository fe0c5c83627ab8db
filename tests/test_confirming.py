"""Which queries decide between two writers: confirm, then train queries that no proposal sees; what they can show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.optimizers.objective import held_out_queries
from syneg.run.confirming import Group, can_show, groups, near_misses_to_compile, said, with_deciders
from syneg.run.pipeline import Run
from syneg.verdict.statistics import shown_by


@pytest.fixture
def opened(tmp_path: Path, settings: Callable[..., list[str]]) -> Callable[..., Run]:
    def build(**more: object) -> Run:
        values = {"compile.optimizer": "search", "compile.pairs": 10, **more}
        return Run(tmp_path / "run", load_config(None, settings("http://x", **values)), Progress(quiet=True))

    return build


def test_train_queries_that_no_proposal_sees_decide_with_confirm(opened: Callable[..., Run]) -> None:
    workspace = opened(**{"compile.confirm_queries": 25}).workspace
    before = workspace.collection.splits
    after = with_deciders(workspace).splits
    taken = after["confirm"][len(before["confirm"]) :]
    assert (
        len(before["confirm"]) < 20
        and len(after["confirm"]) == 25
        and after["confirm"][: -len(taken)] == before["confirm"]
    )
    examples = [pair.query_id for pair in workspace.train_split[:10]]
    assert not {*taken} & {*examples} and {*taken} <= {*before["train"]}
    assert {*after["train"]} == {*before["train"]} - {*taken} and after["dev"] == before["dev"]
    assert not {*taken} & {*held_out_queries(with_deciders(workspace), examples, 400, 0)}
    assert [pair.query_id for pair in workspace.train_split[-len(taken) :]] == list(taken)  # written for last


@pytest.mark.parametrize(("wanted", "pairs"), [("auto", 10), (0, 10), (1, 10), (25, 4)])
def test_at_most_half_of_the_train_queries_are_taken(wanted: object, pairs: int, opened: Callable[..., Run]) -> None:
    workspace = opened(**{"compile.confirm_queries": wanted, "compile.pairs": pairs}).workspace
    splits, after = workspace.collection.splits, with_deciders(workspace).splits
    half, own = (len(splits["train"]) - pairs) // 2, len(splits["confirm"])
    most = {"auto": half, 0: half, 1: 0, 25: 25 - own}[wanted]
    assert len(after["confirm"]) == own + most
    assert (f"{most} of them taken from train" in said(workspace)) == bool(most)
    assert said(workspace).endswith("; 300 were wanted, but no more are free") == (wanted == "auto")


def test_nothing_is_taken_where_nothing_is_confirmed(opened: Callable[..., Run]) -> None:
    workspace = opened(**{"compile.confirm": "false"}).workspace
    assert with_deciders(workspace) is workspace.collection
    assert not groups(workspace)[1].pairs


def test_what_so_many_queries_show() -> None:
    assert shown_by(300, 0.06, 0.05) == pytest.approx((1.968 + 0.842) * 0.06 / 300**0.5, abs=2e-5)
    assert can_show(300) == "a difference in nDCG@10 from about 0.010 on would show"
    assert can_show(75) == "a difference in nDCG@10 from about 0.020 on would show"
    assert can_show(1) == "no difference would show"


def test_more_near_misses_are_written_where_the_gates_leave_too_few() -> None:
    pairs = [SimpleNamespace(query_id=f"q{i}") for i in range(100)]
    group = Group(pairs, 25, 20)  # type: ignore[arg-type]
    near = {f"q{i}": ["text"] for i in range(10)}  # .4 pass, 10 are missing
    assert group.have(near) == 10 and list(group.more(near)) == pairs[25:50]
    assert list(group.more({})) == pairs[25:92]  # at least .3 are taken to pass
    assert not group.more({f"q{i}": [] for i in range(20)})
    assert not Group(pairs[:25], 25, 20).more(near)  # type: ignore[arg-type]
    assert not Group([], 25, 20).more(near)


@pytest.mark.parametrize(("passing", "more"), [(1.0, False), (0.5, True)])
def test_near_misses_stand_for_as_many_queries_as_are_wanted(
    passing: float, more: bool, opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syneg.run.confirming._COMPARED", 20)
    run, asked, said_lines = opened(**{"boundary.queries": "auto", "compile.confirm_queries": 20}), {}, list[str]()
    monkeypatch.setattr(run.workspace.progress, "say", said_lines.append)
    own = {pair.query_id for pair in run.workspace.train_split[:10]}

    def written(stem: str, assignment: object) -> SimpleNamespace:
        pairs = assignment.pairs  # type: ignore[attr-defined]
        asked[stem] = [pair.query_id for pair in pairs]
        drafts = [SimpleNamespace(negative=SimpleNamespace(text="near"))]
        passed = [pair for i, pair in enumerate(pairs) if i % 10 < 10 * passing]
        return SimpleNamespace(accepted={pair.query_id: drafts for pair in passed})

    near = near_misses_to_compile(run.workspace, "single_prompt", written)  # type: ignore[arg-type]
    assert ("near-misses-compile-more" in asked) == more
    every = [query_id for ids in asked.values() for query_id in ids]
    assert len(every) == len({*every}) and not {*every} & ({*run.workspace.collection.splits["test"]} | own)
    compared = [q for q in near if q not in with_deciders(run.workspace).splits["confirm"]]
    assert len(compared) >= 20 or len(near) < len(every)
    (line,) = [line for line in said_lines if "that compare candidates" in line]
    assert line.startswith(f"  near-misses stand for {len(compared)} queries that compare candidates")
    assert (", under the 20 that are wanted" in line) == (len(compared) < 20)
