"""Many diagnoses at once as labels: which chapters, blocks, categories or codes follow within a horizon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field

from careloop import InputError
from careloop.cohort.definition import STRICT, AnyCodes, Codes
from careloop.cohort.labels import KEY, MICROSECONDS_PER_DAY, Facts, first_after, read_facts
from careloop.record import Record
from careloop.record.ontology import LEVELS, Level, at_level, title_of
from careloop.record.schema import DEATH, code_matches
from careloop.record.shards import HERE, each_shard

CENSORED, DIAGNOSED, COMPETING = 0, 1, 2


class DiagnosesSection(BaseModel):
    """Which diagnoses are labels, and what makes one of them true."""

    model_config = STRICT

    codes: Codes = Field(default=("ICD10CM//*",), description="Codes of diagnoses; a prefix ends in *.")
    exclude_codes: AnyCodes = Field(default=(), description="Codes among them that are no diagnoses.")
    levels: Annotated[
        tuple[Level, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
    ] = Field(
        default=("chapter",),
        min_length=1,
        description="Of chapter, block, category (three characters) and code, those whose members are labels. Codes "
        "without a hierarchy in their form, such as SNOMED CT's, are labels at level code only.",
    )
    horizon_days: float = Field(gt=0, description="Days after the prediction time within which a diagnosis counts.")
    min_subjects: int = Field(
        default=20, ge=1, description="Training subjects who get a diagnosis within the horizon, for it to be a label."
    )
    which: Literal["any", "new"] = Field(
        default="any",
        description="`any` diagnosis that is made after the prediction time, or only `new` ones: who has it already, "
        "dated or known at or before the prediction time, has no label.",
    )
    competing: AnyCodes = Field(
        default=(), description="Events after which no diagnosis can follow, such as MEDS_DEATH: labels are then known."
    )
    censoring: AnyCodes = Field(
        default=(),
        description="Events that end follow-up. The subject's last event in the record always ends it (CARELOOP// "
        "events never count), and so does MEDS_DEATH unless it is competing.",
    )

    def named_codes(self) -> Iterator[tuple[str, str]]:
        """Every code the section names, as (field, code)."""
        fields = {"codes": self.codes, "competing": self.competing, "censoring": self.censoring}
        yield from ((field, code) for field, codes in fields.items() for code in codes)


@dataclass(frozen=True, eq=False)
class DiagnosisLabels:
    """Labels of each row of `keys` (n), in its order, for each diagnosis (k). They look forward: never a feature.

    `names` (k) chapters, blocks, categories or codes, the widest first, and their `descriptions`. `parents` (k,) the
    place of the nearest wider label that holds a label, -1 where there is none. `event` (n, k) int8 and
    `follow_up_days` (n, k) are as `label_outcomes` has them, for the first such diagnosis: 1 diagnosed, 2 a competing
    event first, 0 censored. `at_risk` (n, k) is False where only new diagnoses count and this one is known already.
    """

    keys: pl.DataFrame
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parents: NDArray[np.intp]
    event: NDArray[np.int8]
    follow_up_days: NDArray[np.float64]
    at_risk: NDArray[np.bool_]
    horizon_days: float

    @property
    def values(self) -> NDArray[np.float32]:
        """(n, k): 1 diagnosed within the horizon, 0 followed to it without, NaN not known or not at risk."""
        within = self.follow_up_days <= self.horizon_days
        known = (self.event != CENSORED) | (self.follow_up_days >= self.horizon_days)
        values = ((self.event == DIAGNOSED) & within).astype(np.float32)
        values[~(known & self.at_risk)] = np.nan
        return values


@dataclass(frozen=True)
class _Shard:
    """What one shard gives; `place` is a row's number in the keys.

    `ends`: place, event (0 or 2) and days of the end of follow-up; `made`: place, name and days of the first diagnosis
    after the prediction time; `had`: place and name of earlier ones; `levels`: name and level of all.
    """

    ends: pl.DataFrame
    made: pl.DataFrame
    had: pl.DataFrame
    levels: pl.DataFrame


def diagnosis_labels(
    record: Record, keys: pl.DataFrame, section: DiagnosesSection, *, names: Sequence[str] | None = None, on: str = HERE
) -> DiagnosisLabels:
    """Label each row of `keys` with the diagnoses that the record has after its prediction time.

    A wider label is true where any diagnosis beneath it is made. Which diagnoses are labels is decided on the rows
    whose `split` is train, or given by `names`, those of an earlier call. The record is read shard by shard, `on` as
    `each_shard` has it.

    Args:
        record: the record; a later version than the features' gives later diagnoses and longer follow-up.
        keys: columns subject_id, prediction_time, and `split` unless there are `names`; other columns are ignored.
        section: what counts.
        names: the labels, in this order.
        on: where the work is done.

    Raises:
        InputError: a column is missing or null; a subject is not in the record; no diagnosis is common enough.

    """
    rows = _rows(keys, names)
    work = partial(_shard, rows=rows, section=section)
    shards = sorted(record.shard_of(rows["subject_id"]).unique())
    parts = list(each_shard(record, work, on=on, shards=shards))
    if not parts:
        raise InputError("diagnoses: there are no rows to label; check the cohort")
    ends, made, had, levels = (
        pl.concat([getattr(part, name) for part in parts]) for name in ("ends", "made", "had", "levels")
    )
    if ends.height < rows.height:
        missing = rows.join(ends, on="place", how="anti")["subject_id"].n_unique()
        raise InputError(f"{missing} of the subjects to label have no event in the record; label them from their own")
    if section.which == "any":
        had = had.clear()
    chosen = tuple(names) if names is not None else _chosen(rows, made, had, levels, section)
    described = dict(record.code_metadata().select("code", "description").iter_rows())
    descriptions = tuple(described.get(name) or title_of(name) or "" for name in chosen)
    event, days, at_risk = _matrices(ends, made, had, chosen)
    parents = _parents(chosen, section.levels)
    return DiagnosisLabels(keys, chosen, descriptions, parents, event, days, at_risk, section.horizon_days)


def _rows(keys: pl.DataFrame, names: Sequence[str] | None) -> pl.DataFrame:
    wanted = [*KEY, *(["split"] if names is None else [])]
    missing = [name for name in wanted if name not in keys.columns]
    if missing:
        why = "which diagnoses are labels is decided on training rows" if missing == ["split"] else "a key is both"
        raise InputError(f"keys: column {missing[0]} is missing; {why}")
    if keys.select(wanted).null_count().sum_horizontal().item():
        raise InputError(f"keys: {', '.join(wanted)} must not be null; remove the rows where they are")
    return keys.select(wanted).with_row_index("place")


def _shard(record: Record, shard: int, *, rows: pl.DataFrame, section: DiagnosesSection) -> _Shard:
    facts = read_facts(record.events(shard), section)
    members = rows.join(facts.spans, on="subject_id", how="inner", maintain_order="left")
    ends = _ends(facts, members, section)
    wanted = code_matches(section.codes) & ~code_matches(section.exclude_codes)
    diagnoses = facts.events.filter(wanted).select("subject_id", "time", "known_time", "code")
    names = _names(diagnoses["code"].unique().sort(), section.levels)
    both = diagnoses.lazy().join(ends.lazy(), on="subject_id")
    in_time = pl.all_horizontal(pl.col(end).is_null() | (pl.col("time") <= pl.col(end)) for end in ("stop", "competed"))
    after = both.filter(pl.col("time") > pl.col("prediction_time"), in_time)
    earlier = pl.min_horizontal("time", "known_time") <= pl.col("prediction_time")
    before = both.filter(pl.col("time").is_null() | earlier)
    made = after.join(names.lazy(), on="code").group_by("place", "name").agg(days=_days("time").min())
    had = before.join(names.lazy(), on="code").select("place", "name").unique()
    found = pl.collect_all([made, had])
    levels = names.select("name", "level").unique()
    return _Shard(ends.select("place", "event", days=_days("end")), found[0], found[1], levels)


def _ends(facts: Facts, rows: pl.DataFrame, section: DiagnosesSection) -> pl.DataFrame:
    """The rows with `stop` and `competed` (times, null if never), and the `end` of follow-up with its `event`."""
    names_death = pl.select(code=pl.lit(DEATH)).select(code_matches(section.competing)).item()
    censoring = section.censoring if names_death else (*section.censoring, DEATH)
    timed = rows.with_columns(
        first_after(facts, rows, censoring).alias("stop"),
        first_after(facts, rows, section.competing).alias("competed"),
    )
    stop, competed = pl.col("stop"), pl.col("competed")
    is_competing = competed.is_not_null() & (stop.is_null() | (competed <= stop))
    last = pl.max_horizontal("prediction_time", "follow_up_end")
    return timed.with_columns(
        event=pl.when(is_competing).then(COMPETING).otherwise(CENSORED).cast(pl.Int8),
        end=pl.when(is_competing).then(competed).otherwise(pl.min_horizontal(stop, last)),
    )


def _days(column: str) -> pl.Expr:
    return (pl.col(column) - pl.col("prediction_time")).dt.total_microseconds() / MICROSECONDS_PER_DAY


def _names(codes: pl.Series, levels: Sequence[Level]) -> pl.DataFrame:
    """code, name and level: what each code counts as; one name at several levels has the widest."""
    found: dict[tuple[str, str | None], int] = {}
    for code in codes:
        for level in (level for level in LEVELS if level in levels):
            found.setdefault((code, at_level(code, level)), LEVELS.index(level))
    lines = [(code, name, level) for (code, name), level in found.items() if name is not None]
    return pl.DataFrame(lines, schema={"code": pl.String, "name": pl.String, "level": pl.Int64}, orient="row")


def _chosen(
    rows: pl.DataFrame, made: pl.DataFrame, had: pl.DataFrame, levels: pl.DataFrame, section: DiagnosesSection
) -> tuple[str, ...]:
    """The names that enough training subjects get within the horizon, the widest first."""
    training = rows.filter(pl.col("split") == "train").select("place", "subject_id")
    counted = made.filter(pl.col("days") <= section.horizon_days).join(had, on=["place", "name"], how="anti")
    counts = counted.join(training, on="place").group_by("name").agg(pl.col("subject_id").n_unique())
    enough = counts.filter(pl.col("subject_id") >= section.min_subjects)
    if enough.is_empty():
        raise InputError(
            f"diagnoses: of {training['subject_id'].n_unique()} training subjects, not {section.min_subjects} get any "
            f"one diagnosis of {' or '.join(section.codes)} at level {' or '.join(section.levels)} within "
            f"{section.horizon_days:g} days; lower min_subjects, lengthen horizon_days, or check the codes"
        )
    widest = levels.group_by("name").agg(pl.col("level").min())
    return tuple(enough.join(widest, on="name").sort("level", "name")["name"])


def _matrices(
    ends: pl.DataFrame, made: pl.DataFrame, had: pl.DataFrame, names: Sequence[str]
) -> tuple[NDArray[np.int8], NDArray[np.float64], NDArray[np.bool_]]:
    """event, follow_up_days and at_risk (n, k)."""
    ends = ends.sort("place")
    shape = (ends.height, len(names))
    event, days = (np.repeat(ends[name].to_numpy()[:, None], shape[1], axis=1) for name in ("event", "days"))
    at_risk = np.ones(shape, dtype=np.bool_)
    columns = pl.DataFrame({"name": names}, schema={"name": pl.String}).with_row_index("column")
    cells, lost = (pairs.join(columns, on="name") for pairs in (made, had))
    event[cells["place"].to_numpy(), cells["column"].to_numpy()] = DIAGNOSED
    days[cells["place"].to_numpy(), cells["column"].to_numpy()] = cells["days"].to_numpy()
    at_risk[lost["place"].to_numpy(), lost["column"].to_numpy()] = False
    return event, days, at_risk


def _parents(names: Sequence[str], levels: Sequence[Level]) -> NDArray[np.intp]:
    place = {name: number for number, name in enumerate(names)}
    narrow_first = [level for level in reversed(LEVELS) if level in levels]
    above = [[at_level(name, level) for level in narrow_first] for name in names]
    found = [
        next((place[one] for one in wider if one is not None and one != name and one in place), -1)
        for name, wider in zip(names, above, strict=True)
    ]
    return np.array(found, dtype=np.intp)
