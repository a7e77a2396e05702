"""Explanations of histories: shares that add up, dates and values as recorded, and words that read well."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from careloop import InputError
from careloop.features.timelines import TimelineRecipe, TimelinesSection, Token, extract_timelines, fit_timelines
from careloop.models.sequence.arrays import FIRST_CODE, UNKNOWN, Sequences
from careloop.models.sequence.estimators import SequenceClassifier, SequenceHazard
from careloop.predict.events_explained import (
    DATES,
    EventsExplanation,
    SequenceModel,
    explain_events,
    risk_scale,
    time_before,
)
from careloop.record import BIRTH, Record
from careloop.train.calibration import Recalibration

torch = pytest.importorskip("torch")
RECIPE = TimelineRecipe(
    (
        Token(
            "LOINC//1742-6", description="ALT", unit="U/L", edges=(20.0, 34.0, 60.0), mean=40.0, standard_deviation=20
        ),
        Token("SEX", "male", description="sex"),
        Token("LOINC//777-3", description="platelets", unit="{cells}", mean=250.0, standard_deviation=0.0),
        Token("ICD10CM//K74"),
    ),
    TimelinesSection(quantiles=4),
)
ALT, MALE, PLATELETS, FIBROSIS = range(FIRST_CODE, FIRST_CODE + 4)
SEQUENCE = Sequences(
    offsets=np.array([0, 7]),
    code=np.array([MALE, FIBROSIS, ALT, UNKNOWN, ALT, ALT, PLATELETS], dtype=np.int32),
    quantile=np.array([0, 0, 1, 0, 4, 4, 2], dtype=np.uint8),
    value=np.array([np.nan, np.nan, -0.5, np.nan, 5.0, 2.5, 0.0], dtype=np.float32),
    time=np.array([0.0, 20000, 20500, 20800, 20900, 20979.3, 20990]),
    at=np.array([21000.5]),
    static=np.array([[1.0, -0.5, 2.0]], dtype=np.float32),
)
STATICS = ("age 63 years", "smoker: yes", "smoker: yes")


def weighted(model: Any, outputs: int, statics: int, recipe: TimelineRecipe = RECIPE) -> Any:
    """The estimator with a network whose weights follow from NumPy's generator."""
    from careloop.models.sequence.network import NetworkShape, SequenceNetwork

    random, shape = np.random.default_rng(2), NetworkShape("gru", 8, 1, 2, 0.0, outputs)
    model.space_ = recipe.token_space(statics)
    network = SequenceNetwork(model.space_, shape)
    for _, weight in sorted(network.named_parameters()):
        weight.data = torch.from_numpy(random.normal(scale=0.7, size=weight.shape).astype(np.float32))
    model.networks_ = [network.eval()]
    return model


def classifier(statics: int = 3, recipe: TimelineRecipe = RECIPE) -> SequenceClassifier:
    model = SequenceClassifier(network="gru")
    model.classes_, model.class_weights_ = np.array([0, 1]), np.ones(2)
    return weighted(model, 1, statics, recipe)


def hazard(statics: int = 3) -> SequenceHazard:
    model = SequenceHazard(network="gru")
    model.cuts_, model.causes_ = np.array([0.0, 100.0, 400.0]), 1
    model.unique_times_ = model.cuts_[1:]
    return weighted(model, 2, statics)


def of(estimator: Any, **changed: Any) -> SequenceModel:
    usual = SequenceModel(estimator, RECIPE, lambda risk: risk, 0.3, 365.0, "gru", "abc123", "cirrhosis")
    return replace(usual, **changed)


@pytest.fixture(scope="module")
def explanation() -> EventsExplanation:
    return explain_events(of(classifier()), SEQUENCE, statics=STATICS)


@pytest.mark.parametrize("estimator", [classifier(), hazard()])
@pytest.mark.parametrize("risk_of", [lambda risk: risk, Recalibration(0.4, 0.7).apply])
def test_shares_add_up_to_the_distance_from_the_reference(estimator: Any, risk_of: Any) -> None:
    found = explain_events(of(estimator, risk_of=risk_of), SEQUENCE, statics=STATICS)
    raw = (
        estimator.predict_incidence(SEQUENCE, [365.0])
        if isinstance(estimator, SequenceHazard)
        else estimator.predict_proba(SEQUENCE)[:, 1:]
    )
    assert found.risk == pytest.approx(risk_of(raw[0])[0], abs=1e-6)
    assert abs(found.risk - found.reference_risk) > 0.01
    assert sum(factor.share for factor in found.factors) == pytest.approx(found.risk - found.reference_risk, abs=1e-9)
    of_events = [f for f in found.factors if f.code not in (*STATICS, DATES)]
    assert sum(event.share for event in found.events) == pytest.approx(sum(factor.share for factor in of_events))
    sizes = [abs(factor.share) for factor in found.factors]
    assert sizes == sorted(sizes, reverse=True)


@given(st.floats(-6, 6), st.floats(-6, 6))
def test_risk_is_scaled_by_the_slope_between_reference_and_patient(score: float, total: float) -> None:
    risk, reference, slope = risk_scale(score, total, lambda r: r)
    assert (risk, reference) == pytest.approx((expit(score), expit(score - total)))
    assert slope * total == pytest.approx(risk - reference, abs=1e-6)
    assert 0 < slope < 0.26


def test_a_risk_that_contributions_do_not_move_has_the_slope_at_the_patient() -> None:
    assert risk_scale(logit(0.2), 0.0, lambda r: r)[2] == pytest.approx(0.2 * 0.8, abs=1e-4)


def test_events_are_told_with_value_unit_and_date(explanation: EventsExplanation) -> None:
    told = [(event.text, event.value, event.when) for event in explanation.events]
    assert told == [
        ("sex: male", None, "from the beginning"),
        ("K74", None, "3 years before"),
        ("ALT 30 U/L", 30.0, "16 months before"),
        ("unknown code", None, "7 months before"),
        ("ALT at least 140 U/L", 140.0, "3 months before"),
        ("ALT 90 U/L", 90.0, "3 weeks before"),
        ("platelets 250", 250.0, "10 days before"),
    ]
    assert [event.code for event in explanation.events[:2]] == ["SEX=male", "ICD10CM//K74"]


def test_a_code_is_one_factor_told_by_its_leading_event(explanation: EventsExplanation) -> None:
    (factor,) = (f for f in explanation.factors if f.code == "LOINC//1742-6")
    mine = [event for event in explanation.events if event.code == factor.code]
    leading = max(mine, key=lambda event: event.share * np.sign(factor.share))
    verb = "raise" if factor.share > 0 else "lower"
    assert factor.share == pytest.approx(sum(event.share for event in mine))
    assert (factor.value, factor.median, factor.feature) == (leading.value, 34.0, "ALT")
    assert factor.text == (
        f"{leading.text} (training median 34), {leading.when}, and 2 more such events {verb} risk, "
        f"{factor.share:+.2f} (this one {leading.share:+.2f})"
    )
    (alone,) = (f for f in explanation.factors if f.code == "ICD10CM//K74")
    assert alone.text.startswith("K74, 3 years before, ")
    assert alone.text.endswith(f"s risk, {alone.share:+.2f}")


def test_columns_of_the_same_words_are_one_factor(explanation: EventsExplanation) -> None:
    assert {f.code for f in explanation.factors} >= {"age 63 years", "smoker: yes"}
    assert len(explanation.factors) == 1 + 5 + 2
    (age,) = (f for f in explanation.factors if f.code == "age 63 years")
    assert age.text == f"age 63 years {'raises' if age.share > 0 else 'lowers'} risk, {age.share:+.2f}"


def test_age_and_dates_are_what_the_model_makes_of_events_that_say_nothing() -> None:
    """The risk when every code is padding, whose vector is zero, and without numbers; dates stay as they are."""
    estimator = classifier()
    for table in (estimator.networks_[0].embedding.code, estimator.networks_[0].embedding.by_value):
        table.weight.data[0] = 0.0
    estimator.networks_[0].embedding.quantile.weight.data[0] = 0.0
    nothing = np.zeros_like(SEQUENCE.code)
    silent = replace(SEQUENCE, code=nothing, quantile=nothing.astype(np.uint8), value=np.full(7, np.nan, np.float32))
    silent = replace(silent, static=np.zeros_like(SEQUENCE.static))
    (dates,) = (f for f in explain_events(of(estimator), SEQUENCE, statics=STATICS).factors if f.code == DATES)
    assert dates.share == pytest.approx(estimator.predict_proba(silent)[0, 1] - 0.3, abs=0.003)


def test_the_text_says_reference_method_and_warning(explanation: EventsExplanation) -> None:
    first, *_, last = explanation.text.splitlines()
    assert first == (
        f"Risk of cirrhosis within 365 days: {explanation.risk:.2f}; the model starts from "
        "0.30 for an average patient of the tuning rows."
    )
    assert "integrated gradients over 7 events, which add up to the log-odds within 0.00" in last
    assert "ranks the 5 codes with Spearman correlation" in last
    assert last.endswith("gru, version abc123. Not for clinical use.")


def test_a_short_history_has_too_few_codes_to_check() -> None:
    short = replace(SEQUENCE, offsets=np.array([0, 1]), **{n: getattr(SEQUENCE, n)[:1] for n in EVENTS})
    found = explain_events(of(classifier()), short, statics=STATICS)
    assert found.method.endswith("too few codes to check by removing them")
    none = replace(SEQUENCE, offsets=np.array([0, 0]), **{n: getattr(SEQUENCE, n)[:0] for n in EVENTS})
    assert explain_events(of(classifier()), none, statics=STATICS).events == ()


EVENTS = ("code", "quantile", "value", "time")


def test_one_row_and_words_for_every_static_column() -> None:
    with pytest.raises(InputError, match="each of its 3 static columns; got 1 rows and 2 words"):
        explain_events(of(classifier()), SEQUENCE, statics=STATICS[:2])
    with pytest.raises(InputError, match="got 2 rows"):
        explain_events(of(classifier()), SEQUENCE.take(np.array([0, 0])), statics=STATICS)


@given(st.floats(0, 40000))
def test_time_in_words_is_within_half_its_unit(days: float) -> None:
    words = time_before(days)
    if days < 1:
        assert words == "less than a day before"
        return
    count, name, before = words.split()
    length = {"day": 1, "days": 1, "weeks": 7, "months": 365.25 / 12, "years": 365.25}[name]
    assert before == "before"
    assert abs(int(count) * length - days) <= length / 2 + 1e-9
    assert (int(count) == 1) == (name == "day")


def test_what_was_recorded_is_what_is_told(tmp_path: Path) -> None:
    """From a record through fitted timelines to words: the values and dates of the events come back."""
    now, zone = datetime(2020, 6, 1, tzinfo=UTC), pl.Datetime("us", "UTC")
    random, rows = np.random.default_rng(0), []
    for subject in range(30):
        rows.append({"subject_id": subject, "time": now - timedelta(days=15000), "code": BIRTH})
        for days in (200, 21, 3):
            value = float(np.float32(random.normal(50, 10)))
            lab = {"code": "LOINC//1742-6", "numeric_value": value, "unit": "U/L"}
            rows.append({"subject_id": subject, "time": now - timedelta(days=days), **lab})
    schema = {"subject_id": pl.Int64, "time": zone, "code": pl.String, "numeric_value": pl.Float32, "unit": pl.String}
    events = pl.DataFrame(rows, schema=schema)
    record = Record.create(tmp_path / "r", shards=1).append(events, key="1")
    keys = events.select("subject_id").unique(maintain_order=True).with_columns(prediction_time=pl.lit(now, zone))
    recipe = fit_timelines(record, keys, TimelinesSection(min_subjects=5, quantiles=4))
    timelines = extract_timelines(record, keys, recipe)
    model = of(classifier(0, recipe), recipe=recipe)
    for subject in (0, 7):
        found = explain_events(model, timelines.take(np.array([subject])).sequences)
        recorded = events.filter(pl.col("subject_id") == subject)["numeric_value"].drop_nulls().to_list()
        assert [event.when for event in found.events] == ["7 months before", "3 weeks before", "3 days before"]
        assert [event.value for event in found.events] == pytest.approx(recorded, rel=1e-5)
        assert [event.text for event in found.events] == [f"1742-6 {value:.4g} U/L" for value in recorded]
