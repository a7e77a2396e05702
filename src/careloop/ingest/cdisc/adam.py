"""ADaM parameters (BDS), times to an event (ADTTE) and occurrences (OCCDS) as events (ADaMIG 1.0 to 1.3)."""

from __future__ import annotations

import polars as pl

from careloop.ingest.cdisc.cells import Cells, Span, day_end, first_of, first_span, kept, latest
from careloop.ingest.cdisc.demographics import Event
from careloop.ingest.cdisc.sdtm import (
    HOW,
    NO_DATE,
    SPECIMENS,
    closed,
    compared,
    ended,
    event_code,
    known_over,
    qualities,
    ucum,
)

# Analysis datasets whose parameters are the tests of an SDTM domain (ADLBC and ADLBH are of LB).
TESTS = ("LB", "VS", "EG", "QS", "PC", "PE", "IS")
# Controlled terms of DTYPE (codelist C81224); another word may be anything, so it is not repeated.
DERIVED = (
    "AVERAGE", "BC", "BOCF", "COMPLEX FORMULA", "COPY", "ENDPOINT", "INTERP", "LOCF", "LOV", "LVPD", "MAXIMUM",
    "MINIMUM", "MEDIAN", "MI", "MLE", "MOTH", "MODE", "MULTIPLE IMPUTATION", "PHANTOM", "POCF", "SOCF", "SUM", "WC",
    "WOCF", "WOV", "WTH",
)  # fmt: skip
UNIT_IN_NAME = r"\(([^()]{1,20})\)\s*$"  # PARAM "Alanine Aminotransferase (U/L)"
DAYS = {"DAY": 1.0, "DAYS": 1.0, "WEEK": 7.0, "WEEKS": 7.0, "MONTH": 30.4375, "MONTHS": 30.4375, "YEAR": 365.25,
        "YEARS": 365.25}  # fmt: skip
US_A_DAY = 86_400_000_000


def parameters(cells: Cells) -> list[Event]:
    """A value under its test's code as in SDTM, else `CDISC//<dataset>//<PARAMCD>`; once more where it is baseline.

    Derived records (DTYPE, PARAMTYP) are no observations and are skipped. A date of which parts were imputed (ADTF)
    stands for all that it may be. The second analysis record of one observation (for another visit window) is skipped
    where the observation's sequence number tells.
    """
    _skip_derived(cells)
    number, text, unit = compared(cells.number("AVAL"), cells.text("AVALC"), _unit(cells))
    cells.skip("no value", number.is_null() & text.is_null())
    start, end = _date(cells, "A")
    cells.skip(NO_DATE, start.is_null())
    code = _parameter_code(cells)
    known = day_end(end) if cells.prefix in SPECIMENS else end
    value: dict[str, pl.Series] = {"time": start, "known_time": known, "numeric_value": number, "unit": unit}
    value |= {"text_value": text, "description": cells.text("PARAM")}
    baseline = kept("BASELINE//" + code, cells.is_one_of("ABLFL", "Y"))
    treated = first_of(cells.span("TRTSDT")[0], cells.of_subject("start"))
    return [{"code": code, **value}, {"code": baseline, **value, "known_time": latest(known, treated)}]


def _skip_derived(cells: Cells) -> None:
    for kind in DERIVED:
        cells.skip(f"derived record (DTYPE {kind})", cells.is_one_of("DTYPE", kind))
    cells.skip("derived record (DTYPE other)", cells.text("DTYPE").is_not_null())
    cells.skip("derived parameter", cells.is_one_of("PARAMTYP", "DERIVED"))


def _unit(cells: Cells) -> pl.Series:
    prefix = cells.prefix
    named = cells.text("AVALU", f"{prefix}STRESU")
    return first_of(named, cells.text("PARAM").str.extract(UNIT_IN_NAME))


def _parameter_code(cells: Cells) -> pl.Series:
    parameter = cells.upper("PARAMCD")
    cells.skip("no parameter", parameter.is_null())
    return f"CDISC//{cells.prefix if cells.prefix in TESTS else cells.domain}//" + parameter


def _date(cells: Cells, stem: str) -> Span:
    """Span of `<stem>DTM`, `<stem>DT` or the study day `<stem>DY` counted from first treatment."""
    reference = first_of(cells.span("TRTSDT")[0], cells.of_subject("start"))
    day = _imputed(cells, cells.span(f"{stem}DT"), f"{stem}DTF")
    moment = _imputed(cells, _clocked(cells, stem), f"{stem}DTF")
    return first_span(moment, day, cells.day(f"{stem}DY", reference))


def _clocked(cells: Cells, stem: str) -> Span:
    """Span of `<stem>DTM`; the whole day where its time was imputed."""
    start, end = cells.span(f"{stem}DTM")
    is_day = cells.is_one_of(f"{stem}TMF", "H")
    return start.dt.truncate("1d").zip_with(is_day, start), day_end(end).zip_with(is_day, end)


def _imputed(cells: Cells, span: Span, flag: str) -> Span:
    """The span with what was imputed left open: day (flag D), month (M); without a year (Y) there is no date."""
    start, end = span
    for letter, every in (("D", "1mo"), ("M", "1y")):
        first = start.dt.truncate(every)
        last = first.dt.offset_by(every).dt.offset_by("-1s")
        where = cells.is_one_of(flag, letter)
        start, end = first.zip_with(where, start), last.zip_with(where, end)
    has_year = ~cells.is_one_of(flag, "Y")
    return kept(start, has_year), kept(end, has_year)


def times_to_event(cells: Cells) -> list[Event]:
    """The end of follow-up for a parameter: `CDISC//ADTTE//<PARAMCD>//EVENT`, or `//CENSORED` where CNSR is not 0.

    The number is the time from the start (`//START`) in its unit; what happened, or why it was censored, is the text.
    A study file names EVENT as outcome and CENSORED as censoring. Known at the end of the day.
    """
    parameter, flag = cells.upper("PARAMCD"), cells.number("CNSR")
    cells.skip("no parameter", parameter.is_null())
    cells.skip("neither event nor censored (CNSR)", flag.is_null())
    number, unit = cells.number("AVAL"), first_of(cells.upper("AVALU"), cells.upper("PARAM").str.extract(UNIT_IN_NAME))
    started = first_of(cells.span("STARTDTM")[0], cells.span("STARTDT")[0], cells.span("TRTSDT")[0])
    counted = _after(started, number, unit)
    start, end = first_span(_date(cells, "A"), (counted, day_end(counted)))
    cells.skip(NO_DATE, start.is_null())
    code = "CDISC//ADTTE//" + parameter
    ending = cells.always("//EVENT").zip_with(flag == 0, cells.always("//CENSORED"))
    why = first_of(cells.text("EVNTDESC"), cells.text("CNSDTDSC"))
    begun = kept(code + "//START", started.is_not_null() & (started <= start).fill_null(False))
    unit = kept(
        unit.replace_strict({name: _ucum_of(days) for name, days in DAYS.items()}, default=None), number.is_not_null()
    )
    return [
        {"code": begun, "time": started, "known_time": day_end(started)},
        {
            "code": kept(code + ending, flag.is_not_null()),
            "time": start,
            "known_time": day_end(end),
            "numeric_value": number,
            "unit": unit,
            "text_value": why,
            "description": cells.text("PARAM"),
        },
    ]


def _ucum_of(days: float) -> str:
    return {1.0: "d", 7.0: "wk", 30.4375: "mo", 365.25: "a"}[days]


def _after(start: pl.Series, number: pl.Series, unit: pl.Series) -> pl.Series:
    """The day that lies `number` units after the start: counted so that the first day is 1, as study days are."""
    days = number * unit.replace_strict(DAYS, default=None, return_dtype=pl.Float64)
    days = kept(days, days.is_between(0, 100_000)).floor()
    ticks = ((days - 1).clip(lower_bound=0) * US_A_DAY).cast(pl.Int64).cast(pl.Duration("us"))
    return start.dt.truncate("1d") + ticks


def analysis_occurrences(cells: Cells) -> list[Event]:
    """An occurrence (ADAE, ADCM, ADMH) under the code that it has in SDTM, with its analysis dates."""
    d = cells.prefix
    is_drug = cells.has(f"{d}TRT")
    code, name = event_code(cells, d)
    start = _date(cells, "AST")
    end = ended(start, _date(cells, "AEN"))
    cells.skip("no term", code.is_null())
    cells.skip("did not occur", cells.is_one_of(f"{d}OCCUR", "N"))
    cells.skip(NO_DATE, start[0].is_null())
    main: dict[str, pl.Series] = {"code": code, "time": start[0], "known_time": start[1], "description": name}
    if is_drug:
        dose, stop = cells.number(f"{d}DOSE"), closed(start, end)
        how = cells.always(HOW[d]) if d in HOW else cells.nothing()
        unit = ucum(kept(cells.text(f"{d}DOSU"), dose.is_not_null()))
        stopped = kept("STOPPED//" + code, stop[0].is_not_null())
        return [
            {**main, "numeric_value": dose, "unit": unit, "text_value": how},
            {"code": stopped, "time": stop[0], "known_time": stop[1], "text_value": how},
        ]
    known = known_over(end, start[1], cells.of_subject("end"))
    resolved = kept("RESOLVED//" + code, end[0].is_not_null())
    return [
        main,
        *qualities(cells, code, start[0], known),
        {"code": resolved, "time": end[0], "known_time": end[1], "text_value": cells.text(f"{d}OUT")},
    ]
