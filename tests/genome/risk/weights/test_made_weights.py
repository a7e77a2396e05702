"""Weights from statistics of simulated people: planted faults are left out, and scores foretell others' trait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.association.summary_statistics import read_summary_statistics
from careloop.genome.genotypes.linkage.linkage import linkage_of
from careloop.genome.risk.weights.aligned import Aligned, align
from careloop.genome.risk.weights.make import WeightsOptions, make_threshold_weights, make_weights, panel_linkage
from careloop.genome.risk.weights.quality import check_quality
from careloop.genome.risk.weights.shrinkage.gibbs import Schedule
from careloop.genome.risk.weights.shrinkage.shrink import AutoOptions
from careloop.genome.risk.weights.tuning import Tuning, r2_of_scores, scores_of

TUNING, PANEL, TEST = np.arange(2_000, 2_300), np.arange(1_000), np.arange(2_300, 3_000)
QUICK = WeightsOptions(auto=AutoOptions(chains=4, schedule=Schedule(60, 60)))


def score_r2(study, table: pl.DataFrame) -> float:
    """R2 of a table of weights with the trait in test people."""
    rows = study.source.variants.with_row_index("row").join(table, on="variant_id", how="inner", maintain_order="left")
    assert (rows["alt"] == rows["effect_allele"]).all()
    weights = rows["weight"].to_numpy()[:, None]
    scores = scores_of(study.source, rows["row"].cast(pl.Int64).to_numpy(), weights, samples=TEST)
    return float(r2_of_scores(scores, study.cohort.phenotypes["trait"].to_numpy()[TEST])[0])


def test_other_alleles_are_turned(study, swapped: Path) -> None:
    plain = align(read_summary_statistics(study.statistics), study.source.variants)
    turned = align(read_summary_statistics(swapped), study.source.variants)
    assert np.array_equal(plain.rows, np.arange(1_000))
    for name in ("rows", "beta", "standard_error", "people", "p_value"):
        assert np.allclose(getattr(plain, name), getattr(turned, name))
    assert np.allclose(plain.frequency, turned.frequency)
    assert np.allclose(plain.marginal, plain.beta / plain.scale)
    genotypes = study.cohort.genotypes[:, :2_000].astype(float)
    trait = study.cohort.phenotypes["trait"].to_numpy()[:2_000]
    expected = np.corrcoef(np.vstack([genotypes[:20], trait]))[-1, :20]
    assert np.allclose(plain.marginal[:20], expected, atol=1e-4)


def test_planted_faults_are_left_out(study) -> None:
    linkage = linkage_of(study.part(PANEL))
    aligned = align(read_summary_statistics(study.statistics), linkage.variants)
    clean = check_quality(aligned, linkage.frequency, linkage.spread)
    assert clean.aligned.reasons == {}
    error, people, frequency = aligned.standard_error.copy(), aligned.people.copy(), aligned.frequency.copy()
    error[:5] *= 3  # as if of another, rarer variant
    people[5:9] *= 0.4
    error[5:9] /= np.sqrt(0.4)
    frequency[9:12] = 1 - frequency[9:12]
    planted = replace(aligned, standard_error=error, people=people, frequency=frequency)
    found = check_quality(planted, linkage.frequency, linkage.spread)
    asymmetric = int((np.abs(1 - 2 * frequency[9:12]) > 0.12).sum())
    assert found.aligned.reasons["far fewer people than most variants"] == 4
    assert found.aligned.reasons["standard error does not fit frequency"] == 5
    assert found.aligned.reasons.get("frequency is not the reference's", 0) >= asymmetric
    assert not found.passed[:9].any()
    with pytest.raises(InputError, match="no variant of the summary statistics fits"):
        check_quality(aligned, linkage.frequency, np.full(linkage.spread.size, 0.01))


def test_effective_people_of_a_binary_trait() -> None:
    frequency, cases, controls = np.linspace(0.1, 0.5, 50), 1_000, 9_000
    spread, effective = np.sqrt(2 * frequency * (1 - frequency)), 4 / (1 / cases + 1 / controls)
    error = 2 / (spread * np.sqrt(effective))
    n, nothing = np.full(50, float(cases + controls)), np.full(50, np.nan)
    aligned = Aligned(np.arange(50), np.zeros(50), error, n, nothing, nothing, {})
    found = check_quality(aligned, frequency, spread, trait="binary")
    assert np.allclose(found.aligned.people, effective)
    assert np.allclose(found.implied, spread)


def test_shrunk_weights_foretell_the_trait_better_than_the_best_threshold(study) -> None:
    statistics = read_summary_statistics(study.statistics)
    made = make_weights(statistics, panel_linkage(statistics, study.part(PANEL)), options=QUICK)
    assert made.table.height == 1_000
    assert {"h2", "share_causal", "expected_r2"} <= set(made.facts)
    infinitesimal = make_weights(
        statistics, linkage_of(study.part(PANEL)), options=replace(QUICK, shrinkage="infinitesimal")
    )
    trait = study.cohort.phenotypes["trait"].to_numpy()
    tuning = Tuning(study.source, TUNING, trait[TUNING])
    table, threshold, _ = make_threshold_weights(statistics, study.part(PANEL), tuning)
    assert (
        threshold.tried["r2"].max()
        == threshold.tried.filter((pl.col("p") == threshold.p) & (pl.col("clump_r2") == threshold.r2))["r2"].item()
    )
    shrunk, ridge, best = (score_r2(study, one) for one in (made.table, infinitesimal.table, table))
    assert shrunk > best
    assert shrunk > ridge
    assert shrunk == pytest.approx(made.facts["expected_r2"], abs=0.08)


def test_thresholds_are_chosen_in_tuning_people_alone(study) -> None:
    """Whoever is not for tuning may have any trait and genotype: the choice stays."""
    statistics, trait = read_summary_statistics(study.statistics), study.cohort.phenotypes["trait"].to_numpy()
    alone = study.part(TUNING)
    first = make_threshold_weights(statistics, study.part(PANEL), Tuning(study.source, TUNING, trait[TUNING]))
    second = make_threshold_weights(statistics, study.part(PANEL), Tuning(alone, np.arange(300), trait[TUNING]))
    assert first[0].equals(second[0])
    with pytest.raises(InputError, match="trait varies"):
        Tuning(alone, np.arange(300), np.zeros(300))
    with pytest.raises(InputError, match="has a value of the trait"):
        Tuning(alone, np.arange(300), np.full(300, np.nan))


def test_statistics_of_other_variants_are_refused(study) -> None:
    elsewhere = study.source.variants.with_columns(pl.col("position") + 7, variant_id=pl.lit("."))
    with pytest.raises(InputError, match="none of its 1,000 variants is in the reference"):
        align(read_summary_statistics(study.statistics), elsewhere)
