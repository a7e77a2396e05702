"""Simulated streams: how often a right model raises a false alarm, and how soon drift is noticed, beside river.

    python benchmarks/drift.py                                 # 500 undrifted and 200 drifted streams of each kind
    python benchmarks/drift.py --runs 40 --drifted 20          # a quick try
    python benchmarks/drift.py --river VENV/bin/python         # and river's ADWIN and Page-Hinkley on the same streams

river is installed in an environment of its own (`pip install river==0.26.1`). All data are simulated: 20 predictions a
day over 200 days, outcome within 30 days, 10 % of the patients lost before that; drift begins on day 100 and a stream
ends when the last horizon has passed. A model's risks are those of a logistic regression on four inputs.

Streams: `undrifted` with the true risks as predictions, so that every alarm is false; `undrifted, fitted` with a
logistic regression fitted to 3,000 earlier patients, whose small error is real; `prevalence` (log-odds of all outcomes
higher by 0.6); `effect` (the strongest input no longer matters); `unit` (one laboratory reports in another unit: values
times 88.4, as creatinine in umol/L for mg/dL, from a third of the patients); `assay` (one laboratory's values higher by
half a standard deviation in everybody).

Share and delay are over streams without an alarm before the drift. Delay counts from the first changed prediction: days
until the alarm, and predictions made until then; outcomes that tell of it are known 30 days later at the earliest. All
methods get the same false-alarm budget of 5 % a stream: careloop by theory, the others by limits tuned on undrifted
streams of the same length (`--tuning` of them, other seeds): Steiner's chart by quantile, river's detectors by the
loosest of a grid of settings under which at most 5 % of 100 streams alarm. careloop's budget holds for ever and covers
level, spread and four inputs; Steiner's chart and river's detectors on outcomes watch the level alone for these 200
days, river's on inputs are one detector an input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

ALPHA, A_DAY, DAYS, DRIFT_DAY, HORIZON = 0.05, 20, 200, 100, 30
N, CHANGE = A_DAY * DAYS, A_DAY * DRIFT_DAY
INTERCEPT, EFFECTS = -1.8, np.array([1.0, 0.6, 0.4, 0.2])
REFERENCE = 1000
RIVER_TUNING = 100  # streams that river's settings are tuned on, since each setting is run on each
KINDS = ("undrifted", "undrifted, fitted", "prevalence", "effect", "unit", "assay")
START = datetime(2024, 1, 1, tzinfo=UTC)
# river's settings from loose to tight.
GRIDS = {
    "ADWIN": [0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8],
    "PageHinkley": [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 100, 125, 150, 200, 300],
}


@dataclass(frozen=True)
class Stream:
    """Inputs of reference and stream, predicted risk, day of outcome and of loss (infinity without), rows in order."""

    reference: np.ndarray
    inputs: np.ndarray
    risk: np.ndarray
    outcome_day: np.ndarray
    lost_day: np.ndarray


# Day of an alarm, and day on which the prediction that raised it was made; infinity without.
Alarm = tuple[float, float]
NEVER: Alarm = (np.inf, np.inf)


def expit(x: np.ndarray) -> np.ndarray:
    """Probability of log-odds."""
    return 1 / (1 + np.exp(-x))


def simulate(kind: str, seed: int) -> Stream:
    """One stream; inputs 0 and 1 are laboratory values with mean 3 and standard deviation 1."""
    random = np.random.default_rng([KINDS.index(kind), seed])
    changed = np.arange(N) >= CHANGE
    x = random.normal(size=(N, 4))
    log_odds = INTERCEPT + x @ EFFECTS
    if kind == "prevalence":
        log_odds = log_odds + 0.6 * changed
    if kind == "effect":
        log_odds = log_odds - EFFECTS[0] * x[:, 0] * changed
    happened = random.random(N) < expit(log_odds)
    seen = x + 3.0
    if kind == "unit":
        elsewhere = changed & (random.random(N) < 1 / 3)
        seen[:, 1] = np.where(elsewhere, 88.4 * seen[:, 1], seen[:, 1])
    if kind == "assay":
        seen[:, 1] += 0.5 * changed
    risk = expit(INTERCEPT + (seen - 3.0) @ EFFECTS)
    if kind == "undrifted, fitted":
        risk = fitted(x, random)
    outcome_day = np.where(happened, random.uniform(0, HORIZON, N), np.inf)
    lost_day = np.where(random.random(N) < 0.1, random.uniform(0, HORIZON, N), np.inf)
    return Stream(random.normal(size=(REFERENCE, 4)) + 3.0, seen, risk, outcome_day, lost_day)


def fitted(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Risks by a logistic regression that learned from 3,000 other patients."""
    from sklearn.linear_model import LogisticRegression

    earlier = random.normal(size=(3000, 4))
    label = random.random(3000) < expit(INTERCEPT + earlier @ EFFECTS)
    return LogisticRegression(C=np.inf).fit(earlier, label).predict_proba(x)[:, 1]


def careloop_alarm(stream: Stream) -> tuple[Alarm, str]:
    """Careloop's first alarm, and of which kind it is."""
    import polars as pl

    from careloop.features import FeatureMatrix
    from careloop.outcome.stream.watch import Inputs, watch_models

    made = [START + timedelta(days=row / A_DAY) for row in range(N)]
    end = np.minimum(stream.outcome_day, stream.lost_day)
    rows = pl.DataFrame(
        {
            "subject_id": np.arange(N),
            "prediction_time": pl.Series(made, dtype=pl.Datetime("us", "UTC")),
            "model": "model",
            "model_version": "1",
            "predicted_boolean_probability": stream.risk,
            "abstained": False,
            "follow_up_days": np.where(np.isfinite(end), end, HORIZON + 1.0),
            "event": (stream.outcome_day < stream.lost_day).astype(np.int8),
        }
    )
    names = ("lab_0", "lab_1", "input_2", "input_3")
    before = pl.DataFrame({"subject_id": np.arange(REFERENCE), "prediction_time": rows["prediction_time"][0]})
    inputs = Inputs(
        FeatureMatrix(before, names, stream.reference.astype(np.float32)),
        FeatureMatrix(rows.select("subject_id", "prediction_time"), names, stream.inputs.astype(np.float32)),
    )
    as_of = made[-1] + timedelta(days=HORIZON)
    (verdict,) = watch_models(rows, horizon_days=HORIZON, as_of=as_of, alpha=ALPHA, inputs=inputs)
    first = verdict.first_alarm
    if first is None or first.alarm_time is None:
        return NEVER, ""
    days = (datetime.fromisoformat(first.alarm_time).replace(tzinfo=UTC) - START) / timedelta(days=1)
    waited = 0 if first.kind == "input" else HORIZON
    return (days, days - waited), first.kind


def known_rows(stream: Stream) -> np.ndarray:
    """Rows whose outcome becomes known, when their horizon has passed."""
    return np.flatnonzero(np.minimum(stream.outcome_day, HORIZON) <= stream.lost_day)


def steiner_peaks(stream: Stream) -> np.ndarray:
    """Steiner's chart (odds ratio 2 and 1 / 2, the larger) after each known row."""
    from careloop.outcome.stream.cusum import cusum_charts

    rows = known_rows(stream)
    label = stream.outcome_day[rows] < np.inf
    more, fewer = cusum_charts(stream.risk[rows], label[None], odds_ratio=2.0)
    return np.maximum(more[0], fewer[0])


def steiner_alarm(stream: Stream, limit: float) -> Alarm:
    """The alarm comes when the horizon of the row that crosses the limit has passed."""
    over = np.flatnonzero(steiner_peaks(stream) >= limit)
    return after_horizon(known_rows(stream)[over[0]]) if len(over) else NEVER


def after_horizon(row: int) -> Alarm:
    """The alarm that the outcome of this row raises."""
    return row / A_DAY + HORIZON, row / A_DAY


RIVER = """
import json, sys
import numpy as np
from river import drift
data = np.load(sys.argv[1])
detector, settings = sys.argv[2], json.loads(sys.argv[3])
make = {"ADWIN": lambda s: drift.ADWIN(delta=s), "PageHinkley": lambda s: drift.PageHinkley(threshold=s)}[detector]
def first(values, found):
    for place, value in enumerate(values):
        found.update(value)
        if found.drift_detected:
            return place
    return -1
print(json.dumps({name: [[first(column, make(s)) for column in data[name].T.tolist()] for s in settings]
                  for name in data.files}))
"""


def river_alarms(python: str, detector: str, settings: list[float], *, what: str, streams: list[Stream]) -> np.ndarray:
    """Alarms (settings, streams, 2) on `outcomes` (residuals outcome - risk) or any of the standardised `inputs`."""
    arrays = {}
    for place, stream in enumerate(streams):
        rows = known_rows(stream)
        mean, spread = stream.reference.mean(axis=0), stream.reference.std(axis=0)
        residual = ((stream.outcome_day[rows] < np.inf) - stream.risk[rows])[:, None]
        arrays[str(place)] = residual if what == "outcomes" else (stream.inputs - mean) / spread
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "streams.npz"
        np.savez(path, **arrays)
        command = [python, "-c", RIVER, str(path), detector, json.dumps(settings)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    alarms = np.full((len(settings), len(streams), 2), np.inf)
    for place, stream in enumerate(streams):
        rows = known_rows(stream)
        for at in range(len(settings)):
            raised = [row for row in found[str(place)][at] if row >= 0]
            if raised and what == "outcomes":
                alarms[at, place] = after_horizon(rows[min(raised)])
            elif raised:
                alarms[at, place] = min(raised) / A_DAY
    return alarms


Peer = Callable[[list[Stream]], np.ndarray]


def peers(wanted: argparse.Namespace) -> Iterator[tuple[str, Peer]]:
    """Named peers, tuned, each with the alarms (n, 2) of streams."""
    tuning = [simulate("undrifted", 10_000 + run) for run in range(wanted.tuning)]
    limit = float(np.quantile([steiner_peaks(stream).max() for stream in tuning], 1 - ALPHA, method="higher"))
    yield f"Steiner's CUSUM, limit {limit:.2f}", lambda streams: np.array([steiner_alarm(s, limit) for s in streams])
    if not wanted.river:
        return
    for detector, grid in GRIDS.items():
        for what in ("outcomes", "inputs"):
            run = partial(river_alarms, wanted.river, detector, what=what)
            shares = np.isfinite(run(grid, streams=tuning[:RIVER_TUNING])[..., 0]).mean(axis=1)
            # The loosest setting under which few enough streams alarm.
            setting = grid[int(np.flatnonzero(shares <= ALPHA)[0])]
            yield f"river {detector}, {what}, {setting:g}", partial(_first_setting, run, setting)


def _first_setting(run: Callable[..., np.ndarray], setting: float, streams: list[Stream]) -> np.ndarray:
    alarms: np.ndarray = run([setting], streams=streams)[0]
    return alarms


def summary(alarms: np.ndarray) -> str:
    """Share of streams that rows before the drift alarmed; of the others, share that noticed it, and median delay."""
    day, made = alarms.T
    early = made < DRIFT_DAY
    delay = day[~early] - DRIFT_DAY
    noticed = float(np.isfinite(delay).mean()) if len(delay) else 0.0
    middle = float(np.quantile(delay, 0.5, method="higher")) if len(delay) else np.inf
    told = f"{middle:6.1f} days, {middle * A_DAY:5.0f} made" if np.isfinite(middle) else "not in half of them"
    return f"{early.mean():7.1%} {noticed:8.1%}   {told}"


def main() -> None:
    """Print false alarms, then share and delay of each kind of drift."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="undrifted streams of each kind")
    parser.add_argument("--drifted", type=int, default=200, help="streams of each kind of drift")
    parser.add_argument(
        "--tuning", type=int, default=500, help="undrifted streams that the limits of peers are tuned on"
    )
    parser.add_argument("--river", help="python of an environment with river")
    wanted = parser.parse_args()
    tuned = list(peers(wanted))
    for kind in KINDS:
        drifted = not kind.startswith("undrifted")
        streams = [simulate(kind, seed) for seed in range(wanted.drifted if drifted else wanted.runs)]
        own = [careloop_alarm(stream) for stream in streams]
        alarms = {"careloop": np.array([alarm for alarm, _ in own])}
        alarms |= {name: alarm(streams) for name, alarm in tuned}
        if drifted:
            kinds = [k for (_, made), k in own if DRIFT_DAY <= made < np.inf]
            shares = ", ".join(f"{k} {kinds.count(k) / len(kinds):.0%}" for k in sorted(set(kinds)))
            print(f"\n{kind} ({len(streams)} streams; careloop's first alarm: {shares})")
            print(f"  {'':34s}   early  noticed   median delay")
            for name, each in alarms.items():
                print(f"  {name:34s} {summary(each)}", flush=True)
            continue
        print(f"\n{kind}: streams with a (false) alarm, {N:,} predictions each")
        for name, each in alarms.items():
            raised = np.isfinite(each[:, 0])
            print(f"  {name:34s} {int(raised.sum()):4d} of {len(each)} = {raised.mean():.1%}", flush=True)


if __name__ == "__main__":
    main()
