"""Which events the rows of each OMOP CDM table (5.3 and 5.4) are, and why some tables give none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from careloop.ingest.omop.cells import Cells, local_code
from careloop.ingest.tables.columns import first_of, kept, parse_times
from careloop.record import BIRTH, DEATH

Event = Mapping[str, pl.Series | str]  # columns of one event a row; no event where `code` is null
COMPARATORS = {4171756: "<", 4171754: "<=", 4171755: ">=", 4172704: ">"}  # 4172703 is "="
GENDERS = {8507: "M", 8532: "F", 8521: "other", 8570: "other", 8551: "unknown"}
GENDER_WORDS = {"m": "M", "male": "M", "f": "F", "female": "F"}
# HL7 v3 ActCode of visit concepts; others keep their own code.
VISITS = {
    9201: "IMP", 9202: "AMB", 9203: "EMER", 262: "EMER", 581477: "AMB", 581476: "HH", 5083: "VR", 722455: "VR",
    581385: "OBSENC",
}  # fmt: skip
# How the hospital knows of a drug, from the concepts of vocabulary "Drug Type" and, since 2020, "Type Concept".
DRUG_TYPES = {
    38000177: "ordered", 32838: "ordered", 32839: "ordered", 32833: "ordered",
    38000175: "dispensed", 38000176: "dispensed", 581452: "dispensed", 32825: "dispensed", 32869: "dispensed",
    38000179: "administered", 38000180: "administered", 581373: "administered", 32818: "administered",
    38000178: "reported", 44787730: "reported", 32830: "reported", 32865: "reported",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table whose rows are events: its key column, and what one batch of its rows says."""

    key: str
    events: Callable[[Cells], list[Event]]


def _person(cells: Cells) -> list[Event]:
    born, known = _birth(cells)
    gender_id, gender_text = cells.concept("gender_concept_id"), cells.text("gender_source_value")
    gender = first_of(
        gender_id.replace_strict(GENDERS, default=None, return_dtype=pl.String),
        gender_text.str.to_lowercase().replace_strict(GENDER_WORDS, default=None, return_dtype=pl.String),
        kept(cells.always("unknown"), gender_id.is_not_null() | gender_text.is_not_null()),
    )
    race = first_of(cells.name("race_concept_id"), cells.text("race_source_value"))
    ethnicity = first_of(cells.name("ethnicity_concept_id"), cells.text("ethnicity_source_value"))
    return [
        {"code": kept(cells.always(BIRTH), born.is_not_null()), "time": born, "known_time": known},
        {"code": "GENDER//" + gender},
        {"code": "RACE//" + race},
        {"code": "ETHNICITY//" + ethnicity},
    ]


def _birth(cells: Cells) -> tuple[pl.Series, pl.Series]:
    """Time of birth and when it is surely known: a birth given as a year is the year's first day, known at its end."""
    exact = cells.moment("birth_datetime")
    year, month, day = (cells.number(f"{part}_of_birth") for part in ("year", "month", "day"))
    parts = pl.DataFrame({"year": year, "month": month, "day": day}).with_columns(
        pl.when(pl.col("month").is_not_null()).then("day")
    )
    written = parts.select(
        pl.format(
            "{}-{}-{}",
            pl.col("year").cast(pl.Int64, strict=False).cast(pl.String).str.zfill(4),
            pl.col("month").fill_null(1).cast(pl.Int64, strict=False).cast(pl.String).str.zfill(2),
            pl.col("day").fill_null(1).cast(pl.Int64, strict=False).cast(pl.String).str.zfill(2),
        )
    ).to_series()
    first_day = parse_times(written, cells.zone)
    cells.check("year_of_birth", "makes no date", first_day.is_null() & year.is_not_null() & exact.is_null())
    end = parts.select(
        pl.when(pl.col("month").is_null())
        .then(pl.lit(first_day).dt.offset_by("1y"))
        .when(pl.col("day").is_null())
        .then(pl.lit(first_day).dt.offset_by("1mo"))
        .otherwise(pl.lit(first_day))
    ).to_series()
    return first_of(exact, first_day), first_of(exact, end)


def _death(cells: Cells) -> list[Event]:
    time = cells.start("death")
    return [
        {"code": kept(cells.always(DEATH), time.is_not_null()), "time": time},
        {"code": "DEATH_CAUSE//" + cells.code("cause"), "time": time},
    ]


def _visit(stem: str, role: str) -> Callable[[Cells], list[Event]]:
    def events(cells: Cells) -> list[Event]:
        ids = cells.concept(f"{stem}_concept_id")
        kind = first_of(
            ids.replace_strict(VISITS, default=None, return_dtype=pl.String),
            cells.concepts.codes(ids),
            cells.concepts.codes(cells.concept(f"{stem}_source_concept_id")),
            cells.always("UNKNOWN"),
        )
        to = [
            part
            for name in ("discharged_to", "discharge_to")
            for part in (cells.name(f"{name}_concept_id"), cells.text(f"{name}_source_value"))
        ]
        start, end = cells.start(f"{stem}_start"), cells.end(f"{stem}_end")
        return [
            {"code": f"{role}_START//" + kind, "time": start},
            {"code": kept(f"{role}_END//" + kind, end.is_not_null()), "time": end, "text_value": first_of(*to)},
        ]

    return events


def _condition(cells: Cells) -> list[Event]:
    code, end = cells.code("condition"), cells.end("condition_end")
    return [
        {"code": code, "time": cells.start("condition_start")},
        {"code": kept("RESOLVED//" + code, end.is_not_null()), "time": end},
    ]


def _drug(cells: Cells) -> list[Event]:
    code, end = cells.code("drug"), cells.end("drug_exposure_end")
    kind = cells.concept("drug_type_concept_id").replace_strict(DRUG_TYPES, default=None, return_dtype=pl.String)
    unit = cells.text("dose_unit_source_value")
    # Without a dose unit the quantity counts tablets or days: no dose.
    dose = kept(cells.number("quantity"), unit.is_not_null())
    start = cells.start("drug_exposure_start")
    return [
        {
            "code": code,
            "time": start,
            "text_value": kind,
            "numeric_value": dose,
            "unit": kept(unit, dose.is_not_null()),
        },
        {"code": kept("STOPPED//" + code, end.is_not_null()), "time": end},
    ]


def _device(cells: Cells) -> list[Event]:
    code, end = cells.code("device"), cells.end("device_exposure_end")
    return [
        {"code": code, "time": cells.start("device_exposure_start")},
        {"code": kept("STOPPED//" + code, end.is_not_null()), "time": end},
    ]


def _procedure(cells: Cells) -> list[Event]:
    return [{"code": cells.code("procedure"), "time": cells.start("procedure")}]


def _measurement(cells: Cells) -> list[Event]:
    number = cells.number("value_as_number")
    operator = cells.concept("operator_concept_id").replace_strict(COMPARATORS, default=None, return_dtype=pl.String)
    verbatim = kept(cells.text("value_source_value"), number.is_null())
    return [
        {
            "code": cells.code("measurement"),
            "time": cells.start("measurement"),
            "numeric_value": number,
            "unit": cells.unit("unit_concept_id", "unit_source_value"),
            "text_value": first_of(kept(operator, number.is_not_null()), cells.name("value_as_concept_id"), verbatim),
        }
    ]


def _observation(cells: Cells) -> list[Event]:
    number = cells.number("value_as_number")
    verbatim = kept(cells.text("value_source_value"), number.is_null())
    return [
        {
            "code": cells.code("observation"),
            "time": cells.start("observation"),
            "numeric_value": number,
            "unit": cells.unit("unit_concept_id", "unit_source_value"),
            "text_value": first_of(cells.text("value_as_string"), cells.name("value_as_concept_id"), verbatim),
        }
    ]


def _specimen(cells: Cells) -> list[Event]:
    number = cells.number("quantity")
    unit = cells.unit("unit_concept_id", "unit_source_value")
    return [
        {
            "code": "SPECIMEN//" + cells.code("specimen"),
            "time": cells.start("specimen"),
            "numeric_value": number,
            "unit": unit,
            "text_value": first_of(cells.name("anatomic_site_concept_id"), cells.text("anatomic_site_source_value")),
        }
    ]


def _note(cells: Cells) -> list[Event]:
    kind = first_of(
        cells.concepts.codes(cells.concept("note_class_concept_id")),
        local_code(cells.text("note_source_value")),
        local_code(cells.text("note_title")),
        cells.always("LOCAL//note"),
    )
    return [{"code": "DOCUMENT//" + kind, "time": cells.start("note"), "text_value": cells.text("note_text")}]


def _period(cells: Cells) -> list[Event]:
    start, end = cells.start("observation_period_start"), cells.end("observation_period_end")
    return [
        {"code": kept(cells.always("OBSERVATION_PERIOD//START"), start.is_not_null()), "time": start},
        {"code": kept(cells.always("OBSERVATION_PERIOD//END"), end.is_not_null()), "time": end},
    ]


TABLES = {
    "person": Table("person_id", _person),
    "death": Table("person_id", _death),
    "observation_period": Table("observation_period_id", _period),
    "visit_occurrence": Table("visit_occurrence_id", _visit("visit", "VISIT")),
    "visit_detail": Table("visit_detail_id", _visit("visit_detail", "VISIT_DETAIL")),
    "condition_occurrence": Table("condition_occurrence_id", _condition),
    "drug_exposure": Table("drug_exposure_id", _drug),
    "procedure_occurrence": Table("procedure_occurrence_id", _procedure),
    "device_exposure": Table("device_exposure_id", _device),
    "measurement": Table("measurement_id", _measurement),
    "observation": Table("observation_id", _observation),
    "specimen": Table("specimen_id", _specimen),
    "note": Table("note_id", _note),
}
NO_PATIENT, DERIVED, MONEY = "not about a patient", "derived from other tables", "costs and insurance have no place"
# Tables of the standard that give no events, and why. Vocabulary tables are not even counted.
SKIPPED = {
    "care_site": NO_PATIENT, "cdm_source": NO_PATIENT, "location": NO_PATIENT, "metadata": NO_PATIENT,
    "provider": NO_PATIENT,
    "condition_era": DERIVED, "dose_era": DERIVED, "drug_era": DERIVED, "episode": DERIVED, "episode_event": DERIVED,
    "note_nlp": DERIVED,
    "cost": MONEY, "payer_plan_period": MONEY,
    "fact_relationship": "links between rows have no place", "location_history": "addresses have no place",
}  # fmt: skip
