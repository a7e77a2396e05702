"""Simulate a small MEDS data set and store the rows that ACES itself gives for every task in configs/.

Not a test: run it by hand, in an environment of its own, whenever a task is added (es-aces needs polars 1.x):

    python -m venv aces && aces/bin/pip install es-aces==0.7.3
    aces/bin/python tests/cohort/aces/make_expected.py

It writes events.parquet and expected/TASK.parquet beside itself (subject_id, prediction_time, boolean_value).
"""

import random
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from aces import config, predicates, query
from omegaconf import DictConfig

HERE = Path(__file__).parent
SUBJECTS = 600
SEED = 20240501
# Distances that the tasks' windows name, so that events fall exactly on the edges of windows.
STEPS_HOURS = (0, 0, 0, 0.5, 1, 2, 2, 12, 22, 24, 24, 26, 36, 48, 49, 24 * 7, 24 * 8)
GAPS_DAYS = (0, 0.5, 1, 7, 29, 30, 30, 31, 90, 364, 365, 366, 800, 1095, 1460)
SPO2 = "lab_name//O2 saturation pulseoxymetry (%)"
MEASURED = {
    SPO2: (88, 89.5, 90, 90.5, 97, 119.5, 120, 121, None, float("nan")),
    "VITALS//HR": (55, 60, 72, 100, 131, None),
}
DIAGNOSES = ("diagnosis//ICD9CM_41071", "diagnosis//ICD10CM_I214", "ICD9CM//428.9", "ICD9CM//428.41", "ICD9CM//493.90")


def events_of(subject_id: int, draw: random.Random) -> list[tuple]:
    """One subject's events, in no order: static facts, stays, measurements, ventilation, sometimes death."""
    rows = [(None, "SEX//" + draw.choice(("male", "male", "female")), None, None)]
    rows += [(None, "EYE//" + draw.choice(("blue", "brown", "green")), None, None)] * draw.choice((0, 1, 1, 2))
    rows += [(None, "BIRTHPLACE//" + draw.choice(("city", "county 7", "abroad")), None, None)] * draw.choice((0, 1, 1))
    now = datetime(1990, 1, 1) + timedelta(minutes=draw.randrange(60 * 24 * 3000))
    rows.append((now - timedelta(days=draw.choice((1, 30, 9000))), "MEDS_BIRTH", None, None))
    for _ in range(draw.choice((0, 1, 1, 2, 3, 5))):
        rows.append((now, "ADMISSION//" + draw.choice(("ED", "MEDICAL", "SURGICAL")), None, None))
        ventilated = False
        for _ in range(draw.randrange(9)):
            now += timedelta(hours=draw.choice(STEPS_HOURS))
            what = draw.random()
            if what < 0.6:
                code = draw.choice(list(MEASURED))
                rows.append((now, code, draw.choice(MEASURED[code]), draw.choice((None, None, "irregular"))))
            elif what < 0.75:
                rows.append((now, draw.choice(DIAGNOSES), None, None))
            else:
                rows.append((now, "PROCEDURE_" + ("END" if ventilated else "START"), None, None))
                rows += [(now, "procedure//Invasive Ventilation", None, None)] * draw.choice((0, 1, 1, 2))
                ventilated = not ventilated
        if draw.random() < 0.1:
            rows.append((now, "DEATH", None, None))
            break
        if draw.random() < 0.9:
            now += timedelta(hours=draw.choice(STEPS_HOURS))
            rows.append((now, "DISCHARGE//" + draw.choice(("HOME", "DIED", "REHAB")), None, None))
        now += timedelta(days=draw.choice(GAPS_DAYS))
    return [(subject_id, *row) for row in rows]


def simulate() -> pl.DataFrame:
    """The events of all subjects; subject numbers are neither dense nor in order of birth."""
    draw = random.Random(SEED)
    rows = [row for number in range(SUBJECTS) for row in events_of(1000 + 7 * number, draw)]
    schema = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
        "text_value": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").sort("subject_id", "time", maintain_order=True)


def aces_rows(task: Path, events: Path) -> pl.DataFrame:
    """What `aces-cli` would write for the task: its query's rows under the names of MEDS's label schema."""
    cfg = config.TaskExtractorConfig.load(config_path=task)
    data = DictConfig({"path": str(events), "standard": "meds", "ts_format": None})
    found = query.query(cfg, predicates.get_predicates_df(cfg, data))
    label = pl.col("label") > 0 if "label" in found.columns else pl.lit(None, dtype=pl.Boolean)
    rows = found.select("subject_id", pl.col("index_timestamp").alias("prediction_time"), label.alias("boolean_value"))
    return rows.sort("subject_id", "prediction_time", "boolean_value")


def main() -> None:
    """Write the events and the expected rows; print how many rows each task has."""
    events = HERE / "events.parquet"
    simulate().write_parquet(events, compression_level=19)
    (HERE / "expected").mkdir(exist_ok=True)
    for task in sorted((HERE / "configs").glob("*.yaml")):
        rows = aces_rows(task, events)
        rows.write_parquet(HERE / "expected" / f"{task.stem}.parquet", compression_level=19)
        print(f"{task.stem:32} {rows.height:6} rows {rows['boolean_value'].sum()} true")


if __name__ == "__main__":
    main()
