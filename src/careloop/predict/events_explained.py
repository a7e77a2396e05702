"""Why a model over histories gives one patient's risk: the events that drove it, with date and value, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from careloop import InputError
from careloop.features import FeatureMatrix
from careloop.features.timelines import TimelineRecipe, Token
from careloop.features.timelines.tokens import MOST_DEVIATIONS
from careloop.features.words import LONE_ANNOTATION, number, stated
from careloop.models.sequence.arrays import FIRST_CODE, AnySequences, Sequences
from careloop.models.sequence.explanation.attribution import Attribution, Score, integrated_gradients
from careloop.models.sequence.explanation.removal import Occlusion, occlusion, rank_agreement
from careloop.predict.explanation import Explanation, Factor
from careloop.train import Package
from careloop.train.inputs import beside
from careloop.train.preprocess import row_blocks

DAYS_PER_WEEK, DAYS_PER_MONTH, DAYS_PER_YEAR = 7, 30.4375, 365.25
# From so many days on a date is told in the next larger unit, which is then at least two of them.
IN_WEEKS, IN_MONTHS, IN_YEARS = 14, 61, 731
SMALLEST_STEP = 1e-6  # in log-odds: below it the risk's slope is that at the patient
DATES = "age at the prediction with the dates of all events"


@dataclass(frozen=True, eq=False)
class SequenceModel:
    """A model over histories with what its explanations need.

    `risk_of` turns the estimator's risks (k,) into the calibrated risks that predictions show; `usual_risk` is the
    calibrated risk of an average patient.
    """

    estimator: Any
    recipe: TimelineRecipe
    risk_of: Callable[[np.ndarray], np.ndarray]
    usual_risk: float
    horizon_days: float
    name: str
    version: str
    outcome: str


@dataclass(frozen=True)
class ExplainedEvent:
    """One event and its share in the risk; `days_before` the prediction time, None for what stands at the beginning.

    `name` is the code in words, `text` what happened, with the value: `ALT 210 U/L`. `value` is in the code's own unit,
    None without a number.
    """

    code: str
    name: str
    text: str
    value: float | None
    days_before: float | None
    share: float

    @property
    def when(self) -> str:
        """The date in words: `3 weeks before`."""
        return "from the beginning" if self.days_before is None else time_before(self.days_before)


@dataclass(frozen=True)
class EventsExplanation(Explanation):
    """The factors of one risk, a factor for each code of the history, told by the event that matters most.

    Shares are counted from the mean risk of the tuning rows. What the model makes of the patient's age and of the dates
    of the events alone, when it is told neither code nor number and statics are average, is a factor; from there on the
    shares of `events` (all of them, oldest first) and of static columns add up to the risk.
    """

    events: tuple[ExplainedEvent, ...] = ()

    @property
    def reference(self) -> str:
        """What the shares are counted from."""
        return "an average patient of the tuning rows"


def explain_history(package: Package, matrix: FeatureMatrix) -> EventsExplanation:
    """Explain the risk that a package of a sequence model gives the one row of `matrix`."""
    model = SequenceModel(
        estimator=package.estimators[0],
        recipe=package.timelines,  # type: ignore[arg-type]  # a package of a sequence model has it
        risk_of=package.recalibration.apply,
        usual_risk=float(np.average(package.tuning.risk, weights=package.tuning.weight)),
        horizon_days=package.horizon_days,
        name=package.name,
        version=package.version,
        outcome=package.facts.outcome,
    )
    owners = package.preprocessing.owners[beside(package.section, package.preprocessing)]
    values = next(row_blocks(package.aligned(matrix)))[0]
    return explain_events(
        model,
        package.inputs(matrix),
        statics=[stated(package.recipe.columns[j], float(values[j])) for j in owners],
    )


def explain_events(model: SequenceModel, sequences: AnySequences, *, statics: Sequence[str] = ()) -> EventsExplanation:
    """Explain the risk of one row by integrated gradients over its events and static columns.

    Contributions to the log-odds are scaled to add up to the risk's difference from that of the dates alone. Removing
    all events of each code is the independent check, and how far it agrees is in `method`. `statics` says what each
    static column is, such as `age 63 years`; columns of the same words are one factor.

    Raises:
        InputError: not exactly one row, or not as many words as static columns.
    """
    row = sequences.take(np.arange(len(sequences)))
    if len(row) != 1 or len(statics) != row.static.shape[1]:
        raise InputError(
            f"events are explained one row at a time, with words for each of its {row.static.shape[1]} static columns;"
            f" got {len(row)} rows and {len(statics)} words"
        )
    score = Score(horizon=model.horizon_days)
    found = integrated_gradients(model.estimator, row, score=score)
    removed = occlusion(model.estimator, row, score=score, groups=row.code)
    risk, of_dates, slope = risk_scale(float(found.score[0]), float(found.total[0]), model.risk_of)
    events = explained_events(row, found.events * slope, model.recipe)
    factors = [
        *worded_factors([DATES], np.array([of_dates - model.usual_risk])),
        *event_factors(row, events, model.recipe),
        *worded_factors(statics, found.static[0] * slope),
    ]
    return EventsExplanation(
        model=model.name,
        model_version=model.version,
        horizon_days=model.horizon_days,
        outcome=model.outcome,
        risk=risk,
        reference_risk=model.usual_risk,
        method=method(model.recipe, found, removed),
        factors=tuple(sorted(factors, key=lambda f: (-abs(f.share), f.code))),
        events=tuple(events),
    )


def risk_scale(score: float, total: float, risk_of: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float, float]:
    """The risk at log-odds `score`, the risk without the contributions, and risk a unit of log-odds between them."""
    step = total if abs(total) > SMALLEST_STEP else SMALLEST_STEP
    risk, reference, before = (float(r) for r in risk_of(expit(np.array([score, score - total, score - step]))))
    return risk, reference, (risk - before) / step


def explained_events(row: Sequences, shares: np.ndarray, recipe: TimelineRecipe) -> list[ExplainedEvent]:
    """Each event of the one row in words, with its share (T,)."""
    return [
        ExplainedEvent(
            code=code_name(recipe, int(token)),
            name=recipe.words(int(token)),
            text=happened(recipe, int(token), float(value)),
            value=recorded_number(recipe, int(token), float(value)),
            # Static facts stand at birth or at the first event, where no date tells more.
            days_before=None if time <= 0 else float(row.at[0] - time),
            share=float(share),
        )
        for token, value, time, share in zip(row.code, row.value, row.time, shares, strict=True)
    ]


def event_factors(row: Sequences, events: Sequence[ExplainedEvent], recipe: TimelineRecipe) -> list[Factor]:
    """A factor for each code, told by its event that speaks most for the code's share."""
    factors = []
    for token in np.unique(row.code):
        mine = [event for event, code in zip(events, row.code, strict=True) if code == token]
        share = sum(event.share for event in mine)
        leading = max(mine, key=lambda event: event.share * np.sign(share))
        factors.append(event_factor(recipe, int(token), leading, len(mine) - 1, share))
    return factors


def event_factor(recipe: TimelineRecipe, token: int, leading: ExplainedEvent, others: int, share: float) -> Factor:
    """One factor: `ALT 210 U/L (training median 34), 3 weeks before, raises risk, +0.06`."""
    median = typical(recipe, token) if leading.value is not None else None
    compared = "" if median is None else f" (training median {number(median)})"
    verb = "raise" if share > 0 else "lower"
    rest = f"{verb}s risk, {share:+.2f}"
    if others:
        more = "1 more such event" if others == 1 else f"{others} more such events"
        rest = f"and {more} {verb} risk, {share:+.2f} (this one {leading.share:+.2f})"
    name = f"{leading.text}, {leading.when}"
    text = f"{leading.text}{compared}, {leading.when}, {rest}"
    return Factor(name, leading.code, recipe.words(token), leading.value, median, share, text)


def worded_factors(words: Sequence[str], shares: np.ndarray) -> list[Factor]:
    """A factor for each of the words, with the sum of its shares (k,)."""
    together: dict[str, float] = {}
    for word, share in zip(words, shares, strict=True):
        together[word] = together.get(word, 0.0) + float(share)
    return [
        Factor(word, word, word, None, None, share, f"{word} {'raises' if share > 0 else 'lowers'} risk, {share:+.2f}")
        for word, share in together.items()
    ]


def method(recipe: TimelineRecipe, found: Attribution, removed: Occlusion) -> str:
    """How the shares were computed, how exactly they add up, and what the check by removal says."""
    computed = (
        f"integrated gradients over {len(found.events)} events, which add up to the log-odds within"
        f" {max(abs(float(found.error[0])), 0.0005):.3f}"
    )
    agreement = float(rank_agreement(found, removed)[0])
    if np.isnan(agreement):
        return f"{computed}; too few codes to check by removing them"
    most = recipe.words(int(removed.group[np.abs(removed.difference).argmax()]))
    return (
        f"{computed}; as a check, removing each code's events ranks the {len(removed.group)} codes with Spearman"
        f" correlation {agreement:.2f} to this, {most} changing the risk most"
    )


def happened(recipe: TimelineRecipe, token: int, value: float) -> str:
    """The code in words and, where it has a number, the value as recorded with its unit."""
    recorded = recorded_number(recipe, token, value)
    if recorded is None:
        return recipe.words(token)
    # Numbers are cut at five standard deviations, so that what was recorded may lie beyond.
    beyond = "" if abs(value) < MOST_DEVIATIONS else "at least " if value > 0 else "at most "
    return f"{recipe.words(token)} {beyond}{number(recorded)}{unit(recipe.tokens[token - FIRST_CODE])}"


def recorded_number(recipe: TimelineRecipe, token: int, value: float) -> float | None:
    """A standardised number in the code's own unit; None where the event has none."""
    if np.isnan(value) or token < FIRST_CODE:
        return None
    one = recipe.tokens[token - FIRST_CODE]
    deviation = one.standard_deviation or 1.0
    # Six digits of a standard deviation are what float32 has kept; more would show a 0 as 8e-9.
    return round(one.mean + value * deviation, 6 - math.ceil(math.log10(deviation)))


def typical(recipe: TimelineRecipe, token: int) -> float | None:
    """The median of the code's training numbers, where it lies between two quantiles."""
    edges = recipe.tokens[token - FIRST_CODE].edges if token >= FIRST_CODE else ()
    return edges[len(edges) // 2] if len(edges) % 2 else None


def unit(token: Token) -> str:
    """The unit with a space before it, or nothing; UCUM's annotations in braces as words, a lone one left out."""
    if not token.unit or LONE_ANNOTATION.fullmatch(token.unit):
        return ""
    return " " + token.unit.replace("{", "").replace("}", "")


def code_name(recipe: TimelineRecipe, token: int) -> str:
    """The token's code, with its text where it has one."""
    return recipe.tokens[token - FIRST_CODE].name if token >= FIRST_CODE else recipe.words(token)


def time_before(days: float) -> str:
    """Days before the prediction time in words: `5 days before`, `3 weeks before`, `4 months before`."""
    whole = round(days)
    if days < 1:
        return "less than a day before"
    for least, length, name in ((IN_YEARS, DAYS_PER_YEAR, "years"), (IN_MONTHS, DAYS_PER_MONTH, "months")):
        if whole >= least:
            return f"{round(days / length)} {name} before"
    if whole >= IN_WEEKS:
        return f"{round(days / DAYS_PER_WEEK)} weeks before"
    return "1 day before" if whole == 1 else f"{whole} days before"
