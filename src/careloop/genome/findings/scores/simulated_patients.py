"""A record of simulated patients whose genomes add to what the clinic knows of them, to show and to check fusion.

Two populations, common variants of which some cause disease, weights of a score as an earlier and smaller study of
other people would have estimated them, one common variant of larger effect, and rare variants of one gene. Half of the
genome's effect goes through LDL cholesterol, which the clinic measures too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop.genome.findings.scores.score_events import SampleSubjects, record_scores
from careloop.genome.findings.scores.score_table import SAMPLE, Kind
from careloop.record import BIRTH, TIME, Record, conform

Floats = NDArray[np.float64]
VARIANTS, CAUSAL = 600, 200
DIFFERENTIATION = 0.05  # FST of the two populations (Balding and Nichols 1995)
SECOND_POPULATION = 0.3
HERITABILITY = 0.35  # of the score's trait
EARLIER_STUDY = 4_000  # people whose data gave the weights
COMPONENTS = 4
STRONG_VARIANT, STRONG_FREQUENCY = "rs429358_C", 0.12
GENE, CARRIERS = "LDLR", 0.02
NOT_GENOTYPED = 0.05
FIRST_DAY = datetime(2008, 1, 1, tzinfo=UTC)
DAYS_A_YEAR = 365.25
MEAN_YEARS = 90.0  # until the outcome at average risk
INDEX, OUTCOME, END = "SIMULATED//CHECK_UP", "SIMULATED//CORONARY_EVENT", "SIMULATED//END_OF_FOLLOW_UP"
SYSTOLIC, LDL, SMOKER, DIABETES = "LOINC//8480-6", "LOINC//13457-7", "SNOMED//77176002", "ICD10CM//E11.9"
MEANINGS = {
    INDEX: "simulated check-up",
    OUTCOME: "simulated coronary event",
    END: "end of follow-up (simulated)",
    SYSTOLIC: "systolic blood pressure",
    LDL: "LDL cholesterol",
    SMOKER: "smoker",
    DIABETES: "type 2 diabetes",
    "SEX": "sex",
}


@dataclass(frozen=True)
class Genomes:
    """What is known of each person's genome, (n,) each but `components` (n, `COMPONENTS`); `cause` has variance 1."""

    cause: Floats
    score: Floats
    components: Floats
    dosage: Floats
    burden: Floats


def simulated_patients(
    path: Path, *, people: int = 5_000, seed: int = 0, outcome: Literal["as drawn", "shuffled"] = "as drawn"
) -> Record:
    """Make the record in folder `path`, or find it made; every patient's subject_id is 1 to `people`.

    Of 5 % no genome is known. `shuffled` deals the outcomes and their follow-up out anew, so that nothing foretells
    them: no model should do better than chance.
    """
    random = np.random.default_rng(seed)
    genomes = simulated_genomes(people, random)
    events = _clinic(genomes, random, shuffled=outcome == "shuffled")
    record = Record.open(path) if (path / "record.json").exists() else Record.create(path, shards=4)
    record = record.append(events, key=f"simulated:{people}:{seed}:{outcome}")
    record.describe_codes(pl.DataFrame({"code": list(MEANINGS), "description": list(MEANINGS.values())}))
    known = random.random(people) >= NOT_GENOTYPED
    for kind, table in _tables(genomes).items():
        shown = table.filter(pl.Series(known))
        record = record_scores(path, shown, kind=kind, subjects=SampleSubjects(named_by="subject_id")).record
    return record


def simulated_genomes(people: int, random: np.random.Generator) -> Genomes:
    """Draw genotypes and what is computed from them."""
    population = random.random(people) < SECOND_POPULATION
    ancestral = random.uniform(0.05, 0.5, VARIANTS)
    spread = (1 - DIFFERENTIATION) / DIFFERENTIATION
    frequency = random.beta(ancestral * spread, (1 - ancestral) * spread, (2, VARIANTS)).clip(0.01, 0.99)
    copies = random.binomial(2, frequency[population.astype(int)]).astype(np.float64)
    standard = (copies - copies.mean(axis=0)) / copies.std(axis=0).clip(1e-6)
    effects = np.zeros(VARIANTS)
    effects[:CAUSAL] = random.normal(0, np.sqrt(HERITABILITY / CAUSAL), CAUSAL)
    weights = effects + random.normal(0, 1 / np.sqrt(EARLIER_STUDY), VARIANTS)
    left, sizes, _ = np.linalg.svd(standard, full_matrices=False)
    cause, score = standard @ effects, standard @ weights
    return Genomes(
        cause=(cause - cause.mean()) / cause.std(),
        score=(score - score.mean()) / score.std(),
        components=left[:, :COMPONENTS] * sizes[:COMPONENTS],
        dosage=random.binomial(2, STRONG_FREQUENCY, people).astype(np.float64),
        burden=(random.random(people) < CARRIERS).astype(np.float64),
    )


def _tables(genomes: Genomes) -> dict[Kind, pl.DataFrame]:
    """One table a kind, as programs write them."""
    samples = pl.Series(SAMPLE, [str(number + 1) for number in range(len(genomes.score))])
    columns: dict[Kind, dict[str, Floats]] = {
        "score": {"SIMULATED_CAD": genomes.score},
        "pc": {str(i + 1): genomes.components[:, i] for i in range(COMPONENTS)},
        "burden": {GENE: genomes.burden},
        "dosage": {STRONG_VARIANT: genomes.dosage},
    }
    return {kind: pl.DataFrame([samples]).with_columns(**values) for kind, values in columns.items()}


def _clinic(genomes: Genomes, random: np.random.Generator, *, shuffled: bool) -> pl.DataFrame:
    """Birth, sex, risk factors before the check-up, and what happened after it."""
    people = len(genomes.cause)
    age, male = random.uniform(45, 65, people), random.random(people) < 0.5
    smokes, diabetes = random.random(people) < 0.25, random.random(people) < 0.04 + 0.004 * (age - 45)
    systolic = random.normal(128 + 0.4 * (age - 55), 15)
    ldl = random.normal(130 + 14 * genomes.cause + 40 * genomes.burden, 26)
    risk = 0.06 * (age - 55) + 0.4 * (male - 0.5) + 0.5 * (smokes - 0.25) + 0.55 * diabetes
    risk += 0.014 * (systolic - 128) + 0.012 * (ldl - 130)
    risk += 0.75 * genomes.cause + 0.35 * (genomes.dosage - 2 * STRONG_FREQUENCY) + 0.6 * genomes.burden
    years, end = random.exponential(MEAN_YEARS / np.exp(risk)), random.uniform(7, 16, people)
    if shuffled:
        order = random.permutation(people)
        years, end = years[order], end[order]
    day_0 = pl.Series([FIRST_DAY + timedelta(days=int(days)) for days in random.integers(0, 700, people)])
    happened = years < end
    everybody = np.ones(people, dtype=bool)
    sexes = np.where(male, "male", "female")
    return pl.concat(
        [
            _facts(day_0, BIRTH, everybody, days=-age * DAYS_A_YEAR),
            _facts(day_0, "SEX", everybody, text=sexes),
            _facts(day_0, SMOKER, smokes, days=random.uniform(-900, -30, people)),
            _facts(day_0, DIABETES, diabetes, days=random.uniform(-900, -30, people)),
            _facts(day_0, SYSTOLIC, everybody, days=random.uniform(-200, -1, people), value=systolic, unit="mm[Hg]"),
            _facts(day_0, LDL, random.random(people) < 0.9, days=np.full(people, -7.0), value=ldl, unit="mg/dL"),
            _facts(day_0, INDEX, everybody, days=np.zeros(people)),
            _facts(day_0, OUTCOME, happened, days=years * DAYS_A_YEAR),
            _facts(day_0, END, ~happened, days=end * DAYS_A_YEAR),
        ]
    )


def _facts(
    day_0: pl.Series,
    code: str,
    having: NDArray[np.bool_],
    *,
    days: Floats | None = None,
    value: Floats | None = None,
    **words: NDArray[np.str_] | str,
) -> pl.DataFrame:
    """One event of those `having` it, `days` from day 0 (None: a static fact); `words` are text and unit."""
    rows = pl.DataFrame({"subject_id": np.arange(1, len(having) + 1), "day_0": day_0})
    rows = rows.with_columns(hours=None if days is None else pl.Series(days * 24.0).cast(pl.Int64))
    offset = pl.lit(None, dtype=TIME) if days is None else pl.col("day_0") + pl.duration(hours="hours")
    return conform(
        rows.select(
            "subject_id",
            time=offset,
            code=pl.lit(code),
            numeric_value=pl.lit(None, dtype=pl.Float32) if value is None else pl.Series(value).cast(pl.Float32),
            unit=pl.lit(words.get("unit"), dtype=pl.String),
            text_value=pl.Series(words["text"], dtype=pl.String) if "text" in words else pl.lit(None, dtype=pl.String),
        ).filter(pl.Series(having))
    )
