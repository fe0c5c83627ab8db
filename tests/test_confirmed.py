"""The last word on a compilation: who wins, when no difference is shown, and which program a tie takes."""

from __future__ import annotations

import pytest

from syneg.verdict.confirmed import Confirmed

FIRST = {f"q{i}": 0.5 for i in range(20)}
NOISY = {q: value + (0.3 if i % 2 else -0.25) for i, (q, value) in enumerate(FIRST.items())}
BETTER = {q: value + 0.01 * (1 + i % 2) for i, (q, value) in enumerate(FIRST.items())}
WORSE = {q: value - 0.01 * (1 + i % 2) for i, (q, value) in enumerate(FIRST.items())}


def test_a_win_takes_an_interval_over_zero_and_a_tie_keeps_the_program() -> None:
    tie, lead, loss = (Confirmed.of(1, values, FIRST) for values in (NOISY, BETTER, WORSE))
    assert tie.delta > 0 and tie.interval is not None and tie.interval[0] < 0
    assert [one.replaces for one in (tie, lead, loss)] == [False, True, False]
    assert tie.verdict == "No difference is shown, so the program as it was is used."
    assert lead.verdict == "The interval lies over 0, so the candidate replaces the program."
    assert loss.verdict == "The candidate is worse, so the program as it was is used."
    assert "20 queries, which would have shown 0." in lead.figures


@pytest.mark.parametrize(
    ("cost", "unit", "replaces", "said"),
    [
        ((812.4, 1020.0), "tokens", True, "takes 812 tokens with the candidate and 1,020 tokens with the program as it was, so the candidate is used."),
        ((1020.0, 812.4), "tokens", False, "so the program as it was is used."),
        ((1020.0, 1020.0), "tokens", False, "so the program as it was is used."),
        ((0.0012, 0.0034), "dollars", True, "takes $0.00120 with the candidate and $0.00340"),
    ],
)  # fmt: skip
def test_a_tie_takes_the_cheaper_program_and_says_so(
    cost: tuple[float, float], unit: str, replaces: bool, said: str
) -> None:
    tie = Confirmed.of(1, NOISY, FIRST, cost=cost, unit=unit)
    assert tie.replaces == replaces
    assert tie.verdict.startswith("No difference is shown. ") and said in tie.verdict


def test_cost_breaks_ties_only() -> None:
    assert Confirmed.of(1, BETTER, FIRST, cost=(9.0, 1.0)).replaces
    assert not Confirmed.of(1, WORSE, FIRST, cost=(1.0, 9.0)).replaces


def test_a_lead_at_the_boundary_does_not_buy_a_fall_in_standard_figures() -> None:
    falls = Confirmed.of(1, BETTER, FIRST, standard=(-0.011, 0.010))
    assert not falls.replaces and "falls by more than its error" in falls.verdict
    assert Confirmed.of(1, BETTER, FIRST, standard=(-0.009, 0.010)).replaces
    assert not Confirmed.of(1, NOISY, FIRST, standard=(-0.011, 0.010), cost=(1.0, 9.0)).replaces
    assert "; standard nDCG@10 -0.0110 ± 0.0100" in falls.figures


def test_it_is_read_from_an_outcome_of_an_earlier_version() -> None:
    found = Confirmed.from_json(
        {"candidate": 1, "mean": [0.5, 0.4], "delta": 0.1, "error": 0.01, "queries": 9, "strict": True}
    )
    assert (found.queries, found.interval, found.replaces) == (9, None, False)
