"""Who the subjects are: DM and ADSL as events, and the moments that other datasets count from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from careloop.ingest.cdisc.cells import REFERENCE, Cells, Span, day_end, first_of, first_span, kept, latest
from careloop.record import BIRTH, DEATH
from careloop.record.schema import EARLIEST

Event = Mapping[str, pl.Series]  # columns of one event a row, and `description`; no event where `code` is null
SEX = {"M": "M", "F": "F", "U": "unknown", "UNDIFFERENTIATED": "other", "INTERSEX": "other"}
# Arm codes of those who got none (SDTMIG 3.2 to 3.4, DM assumptions).
NO_ARM = ("SCRNFAIL", "NOTASSGN", "NOTTRT", "UNPLAN", "SCREEN FAILURE", "NOT ASSIGNED", "NOT TREATED")
AGE_MONTHS = {"YEARS": 12.0, "MONTHS": 1.0, "DECADES": 120.0, "WEEKS": 12 / 52.1775, "DAYS": 12 / 365.2425}
UNKNOWN = ("U", "UNKNOWN", "NOT REPORTED")
# Where DM and ADSL say the same thing under other names.
_COLUMNS = {
    "DM": {
        "start": ("RFSTDTC", "RFXSTDTC"), "enrolled": ("RFICDTC", "DMDTC"), "end": ("RFPENDTC", "RFENDTC"),
        "treated": ("RFXSTDTC", "RFSTDTC"), "death": ("DTHDTC",), "birth": ("BRTHDTC",),
        "arm": ("ARMCD", "ARM"), "arm name": ("ARM",), "actual": ("ACTARMCD", "ACTARM"), "actual name": ("ACTARM",),
    },
    "ADSL": {
        "start": ("TRTSDTM", "TRTSDT", "RFSTDTC", "RANDDT"), "enrolled": ("RFICDT", "RFICDTC", "RANDDT"),
        "end": ("EOSDT", "RFPENDTC", "RFENDT", "RFENDTC"), "treated": ("TRTSDTM", "TRTSDT"),
        "death": ("DTHDTM", "DTHDT", "DTHDTC"), "birth": ("BRTHDT", "BRTHDTC"),
        "arm": ("ARMCD", "ARM", "TRT01P"), "arm name": ("ARM", "TRT01P"),
        "actual": ("ACTARMCD", "TRT01A", "ACTARM"), "actual name": ("ACTARM", "TRT01A"),
    },
}  # fmt: skip


def demographics(cells: Cells) -> list[Event]:
    """Birth, death, sex, race, ethnicity, country and site; arms; start and end of taking part.

    Without a date of birth it is the reference start less the age, so that the age then is the one recorded. Arms
    (`CDISC//ARM//<code>` as planned, `CDISC//ACTARM//<code>` as treated) are dated at reference start and first
    treatment; taking part from consent to its end is `OBSERVATION_PERIOD//START` and `//END`, as in OMOP.
    """
    start, end = _span(cells, "start"), _span(cells, "end")
    enrolled = first_span(_span(cells, "enrolled"), start)
    born = first_span(_span(cells, "birth"), _born(cells, first_of(start[0], enrolled[0])))
    died, treated = _span(cells, "death"), _span(cells, "treated")
    sex = cells.upper("SEX").replace_strict(SEX, default=None, return_dtype=pl.String)
    race, ethnicity = (_group(cells, name) for name in ("RACE", "ETHNIC"))
    events = [
        _dated(cells, BIRTH, born),
        {"code": "GENDER//" + sex},
        {"code": "RACE//" + race},
        {"code": "ETHNICITY//" + ethnicity},
        {"code": "COUNTRY//" + cells.upper("COUNTRY")},
        {"code": "SITE//" + cells.text("SITEID")},
        _dated(cells, "OBSERVATION_PERIOD//START", enrolled),
        _arm(cells, "arm", first_span(start, enrolled)),
        _arm(cells, "actual", treated),
        _dated(cells, "OBSERVATION_PERIOD//END", end),
        _dated(cells, DEATH, died),
    ]
    cells.skip("nothing that is read", pl.select(pl.all_horizontal(e["code"].is_null() for e in events)).to_series())
    return events


def _span(cells: Cells, what: str) -> Span:
    columns = _COLUMNS["DM" if cells.domain == "DM" else "ADSL"][what]
    return first_span(*(cells.span(name) for name in columns))


def _born(cells: Cells, reference: pl.Series) -> Span:
    """The latest birth that fits the age: it was reached at the reference."""
    months = first_of(cells.upper("AGEU"), cells.always("YEARS")).replace_strict(
        AGE_MONTHS, default=None, return_dtype=pl.Float64
    )
    age = (cells.number("AGE") * months).round().cast(pl.Int64, strict=False)
    age = kept(age, age.is_between(0, 150 * 12))
    shift = kept("-" + age.cast(pl.String) + "mo", reference.is_not_null())
    born = pl.select(pl.lit(reference).dt.truncate("1d").dt.offset_by(pl.lit(shift))).to_series()
    return kept(born, born >= EARLIEST), kept(born, born >= EARLIEST)


def _group(cells: Cells, name: str) -> pl.Series:
    """Race or ethnicity in lower case; each of several races that SUPPDM names (RACE1, RACE2) joined by "and"."""
    text = kept(cells.text(name), ~cells.is_one_of(name, *UNKNOWN))
    parts = [cells.text(f"{name}{number}") for number in range(1, 6) if cells.has(f"{name}{number}")]
    if parts:
        several = pl.select(pl.concat_str(parts, separator=" and ", ignore_nulls=True)).to_series()
        text = several.zip_with(cells.is_one_of(name, "MULTIPLE") & (several != ""), text)
    return text.str.to_lowercase()


def _dated(cells: Cells, code: str, span: Span) -> Event:
    return {"code": kept(cells.always(code), span[0].is_not_null()), "time": span[0], "known_time": span[1]}


def _arm(cells: Cells, what: str, span: Span) -> Event:
    columns = _COLUMNS["DM" if cells.domain == "DM" else "ADSL"]
    arm, name = cells.text(*columns[what]), cells.text(*columns[f"{what} name"])
    is_none = arm.str.to_uppercase().is_in(NO_ARM) | name.str.to_uppercase().is_in(NO_ARM).fill_null(False)
    role = "ARM" if what == "arm" else "ACTARM"
    code = kept(f"CDISC//{role}//" + arm, ~is_none & span[0].is_not_null())
    return {"code": code, "time": span[0], "known_time": span[1], "description": name}


def reference_of(batches: Iterable[pl.DataFrame], domain: str, zone: str) -> pl.DataFrame:
    """One row a subject (columns of REFERENCE) from the rows of DM or ADSL: a few dozen bytes each."""
    parts = [REFERENCE.to_frame()]
    for rows in batches:
        cells = Cells(rows, domain, zone)
        start, end = _span(cells, "start"), _span(cells, "end")
        enrolled = first_span(_span(cells, "enrolled"), start)
        died = _span(cells, "death")[0]
        # A fact that is known at the end of taking part is known at the end of that day.
        ends = latest(day_end(end[1]), day_end(died))
        columns = {"USUBJID": cells.text("USUBJID"), "start": first_of(start[0], enrolled[0]), "end": ends}
        columns |= {"enrolled": enrolled[0], "is_dead": died.is_not_null()}
        parts.append(pl.DataFrame(columns, schema=REFERENCE).drop_nulls("USUBJID"))
    return pl.concat(parts).unique("USUBJID", keep="first", maintain_order=True)
