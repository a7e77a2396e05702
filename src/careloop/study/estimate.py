"""How much data and compute a study needs, before its models are trained: Riley's floor, learning curves, resources.

Held-out rows are counted and never looked at otherwise: rates and learning curves come from training rows, and what the
models of a learning curve are worth is judged on tuning rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from careloop.cohort import select_cohort
from careloop.evaluate import horizon_labels, horizon_weights
from careloop.evaluate.sample_size import (
    ASSUMED_SHARE,
    SampleSize,
    binary_sample_size,
    max_r2_binary,
    max_r2_time_to_event,
    parameters_for,
    r2_from_c_statistic,
    time_to_event_sample_size,
)
from careloop.features import fit_features
from careloop.models.sequence.arrays import FIRST_CODE
from careloop.models.sequence.resources import (
    EIGHT_GPUS,
    ONE_GPU,
    Resources,
    Work,
    estimate_resources,
    measure_cpu,
)
from careloop.record import CARELOOP, Record
from careloop.record.shards import HERE
from careloop.study.learning_curves import ModelCurve, Progress, learning_curves
from careloop.study.study import Study
from careloop.train import ModelSection, TrainingData, check_leakage
from careloop.train.definition import REFERENCES
from careloop.train.fit import check_classes
from careloop.train.preprocess import fit_preprocessing

DAYS_A_YEAR = 365.25
SPLITS = ("train", "tuning", "held_out")
# Of longer histories networks read the latest events only, by default.
MOST_EVENTS = 512
# An AUROC below this gives an R2 so near 0 that the patients needed are without bound.
MOST_LIKE_CHANCE = 0.51


@dataclass(frozen=True)
class Counted:
    """Rows of one split (or of all): `events` within the horizon, `risk` by then with censoring accounted for.

    `rate_per_year` is events per person-year, and `mean_follow_up_years` the mean, both up to the horizon.
    """

    split: str
    rows: int
    subjects: int
    events: int
    risk: float | None
    rate_per_year: float
    mean_follow_up_years: float


@dataclass(frozen=True)
class Floor:
    """Riley's minimum under one assumption, in words, and the parameters that the training subjects would allow."""

    assumption: str
    size: SampleSize
    parameters_allowed: int


@dataclass(frozen=True)
class StudyEstimate:
    """What a study has and needs; `work` is what networks of each size in `networks` would be trained on.

    `parameters` are those of logistic regression on all candidate `features`, indicators of missing values included.
    """

    study: str
    counts: tuple[Counted, ...]
    features: int
    parameters: int
    floors: tuple[Floor, ...]
    curves: tuple[ModelCurve, ...]
    work: Work
    networks: tuple[Resources, ...]
    assumptions: tuple[str, ...]


def estimate_study(
    study: Study,
    record: Record,
    *,
    on: str = HERE,
    epochs: float = 10.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> StudyEstimate:
    """Count, and train small models on parts of the training rows; `progress(what, done, total)` hears of each.

    All candidate columns are used, whatever features.selection would keep of them. The processor is timed for a second.

    Raises:
        InputError: the record or the study breaks a rule, as in `Study.run`; a split has no rows, or one class only.
    """
    facts = Record.open(record.path, version=record.facts_version)
    rows = select_cohort(facts, study.cohort, on=on).rows
    recipe, matrix = fit_features(facts, rows, study.features, exclude_codes=study.arm_codes, on=on, progress=progress)
    data = TrainingData(rows, matrix, recipe, study.cohort.outcome.horizon_days, facts.version)
    check_leakage(data)
    training = data.part("train")
    for part, name in ((training, "training"), (data.part("tuning"), "tuning")):
        check_classes(part, name)
    counts = tuple(_counts(rows, data.horizon_days))
    parameters = len(fit_preprocessing(training.values, matrix.names, "standardised").owners)
    curves = learning_curves(_references(study), data, seed=seed, progress=progress)
    devices = (measure_cpu(), ONE_GPU, EIGHT_GPUS)
    work = _work(facts, study.features.min_subjects, epochs)
    return StudyEstimate(
        study=study.name,
        counts=counts,
        features=len(matrix.names),
        parameters=parameters,
        floors=tuple(_floors(counts[0], parameters, curves[0], horizon_years=data.horizon_days / DAYS_A_YEAR)),
        curves=curves,
        work=work,
        networks=estimate_resources(work, devices),
        assumptions=tuple(device.assumption for device in devices),
    )


def _references(study: Study) -> list[ModelSection]:
    """Logistic regression and LightGBM with the parameters that the study gives them, untuned."""
    named = {model.kind: model for model in reversed(study.all_models)}
    return [named.get(kind, ModelSection(kind=kind)).model_copy(update={"tuning": None}) for kind in REFERENCES]


def _counts(rows: pl.DataFrame, horizon_days: float) -> Iterator[Counted]:
    """Counts of each split, then of all rows."""
    for split in (*SPLITS, "all"):
        chosen = rows if split == "all" else rows.filter(pl.col("split") == split)
        if chosen.height:
            yield _counted(split, chosen, horizon_days)


def _counted(split: str, rows: pl.DataFrame, horizon_days: float) -> Counted:
    follow_up, event = rows["follow_up_days"].to_numpy(), rows["event"].to_numpy()
    label = horizon_labels(follow_up, event, horizon_days)
    years = np.minimum(follow_up, horizon_days) / DAYS_A_YEAR
    known = (event != 0) | (follow_up >= horizon_days)
    risk = None
    if (follow_up >= horizon_days).any():  # else the risk at the horizon is not identified
        risk = float(np.average(label[known], weights=horizon_weights(follow_up, event, horizon_days)[known]))
    events = int(label.sum())
    return Counted(
        split, rows.height, rows["subject_id"].n_unique(), events, risk, events / years.sum(), float(years.mean())
    )


def _floors(training: Counted, parameters: int, logistic: ModelCurve, *, horizon_years: float) -> Iterator[Floor]:
    """Riley's minimum for the training rows' risk and rate, under each assumption of how well a model will do."""
    risk, rate, follow_up = training.risk, training.rate_per_year, training.mean_follow_up_years
    share = f"R2 {ASSUMED_SHARE:.0%} of the largest possible"

    def floor(assumption: str, size_of: Callable[[int], SampleSize]) -> Floor:
        return Floor(assumption, size_of(parameters), parameters_for(training.subjects, size_of))

    if risk is not None:
        assumed = {f"binary outcome, {share}": ASSUMED_SHARE * max_r2_binary(risk)}
        if logistic.curve is not None and (reached := 1 - logistic.curve.seen[-1][1]) > MOST_LIKE_CHANCE:
            words = f"binary outcome, AUROC {reached:.2f} as {logistic.model} on the tuning rows"
            assumed[words] = r2_from_c_statistic(reached, risk)
        for assumption, r2 in assumed.items():
            yield floor(assumption, partial(binary_sample_size, prevalence=risk, r2=r2))
    r2 = ASSUMED_SHARE * max_r2_time_to_event(rate, follow_up)
    of_rate = partial(time_to_event_sample_size, rate=rate, mean_follow_up=follow_up, timepoint=horizon_years, r2=r2)
    yield floor(f"time to event, {share}", of_rate)


def _work(facts: Record, min_subjects: int, epochs: float) -> Work:
    """The record's timed events as tokens, and the codes that enough subjects have as the vocabulary.

    The context is the length of history that an event finds itself in on average, of at most `MOST_EVENTS`.
    """
    timed = facts.events().filter(pl.col("time").is_not_null() & ~pl.col("code").str.starts_with(CARELOOP))
    lengths = timed.group_by("subject_id").agg(events=pl.len().clip(upper_bound=MOST_EVENTS)).collect()["events"]
    length = lengths.to_numpy().astype(np.float64)
    subjects = timed.group_by("code").agg(subjects=pl.col("subject_id").n_unique()).collect()["subjects"]
    return Work(
        tokens=timed.select(pl.len()).collect().item(),
        vocabulary=int((subjects >= min_subjects).sum()) + FIRST_CODE,
        epochs=epochs,
        context=math.ceil((length**2).sum() / length.sum()),
    )
