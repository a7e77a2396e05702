"""SDTM findings, events, interventions, visits and elements (SDTMIG 3.2 to 3.4) as events."""

from __future__ import annotations

import polars as pl

from careloop.ingest.cdisc.cells import Cells, Span, day_end, first_of, first_span, kept, latest, upper
from careloop.ingest.cdisc.dates import moved
from careloop.ingest.cdisc.demographics import Event
from careloop.ingest.vocabularies import prefix_of
from careloop.record import DEATH

MEDDRA, LOINC = prefix_of("MDR"), prefix_of("LN")
# Findings from a specimen, whose result came after it was taken.
SPECIMENS = ("LB", "MB", "MI", "MS", "PC", "PP", "IS", "CP", "BS", "GF", "PF")
BLOOD = ("BLOOD", "SERUM", "PLASMA", "SERUM OR PLASMA", "SERUM/PLASMA", "BLOOD, VENOUS", "WHOLE BLOOD")
# Units whose CDISC term means another unit, or none, in UCUM; clean spells the others.
UNITS = {"C": "Cel", "F": "[degF]", "IN": "[in_i]", "LB": "[lb_av]", "beats/min": "/min", "BEATS/MIN": "/min",
         "breaths/min": "/min", "BREATHS/MIN": "/min", "mmHg": "mm[Hg]", "sec": "s", "msec": "ms"}  # fmt: skip
COMPARED = r"^([<>]=?)\s*(\d+(?:\.\d+)?)$"
HOW = {"EX": "administered", "EC": "administered", "AG": "administered", "CM": "reported", "SU": "reported"}
NOT_CODED = ("UNCODED", "NOT CODED", "UNCODABLE", "NOT CODABLE")  # instead of a dictionary's term
NO_DATE = "no date"


def findings(cells: Cells) -> list[Event]:
    """A result under its LOINC code, else `CDISC//<domain>//<test code>`, and once more where it is the baseline.

    Standard units are preferred; "<5" is 5 with the text "<". A glucose of urine is not one of blood, so a laboratory
    code ends in the specimen where it is not blood; a finding about an object ends in the object. Results of a
    specimen are known at the end of the day on which it was (completely) taken, as SDTM has no time of the result;
    others at the end of their own span. Which value is the baseline is known when treatment starts.
    """
    d = cells.domain
    _refuse_undone(cells)
    number, text, unit = _result(cells)
    cells.skip("no result", number.is_null() & text.is_null())
    taken = _when(cells, f"{d}DTC", f"{d}STDTC", f"{d}RFTDTC", f"{d}RFDTC", day=f"{d}DY")
    end = latest(taken[1], cells.span(f"{d}ENDTC")[1])
    known = day_end(end) if d in SPECIMENS else end
    code, name = _test_code(cells), cells.text(f"{d}TEST")
    result: dict[str, pl.Series] = {"time": taken[0], "known_time": known, "numeric_value": number}
    result |= {"unit": unit, "text_value": text, "description": name}
    is_baseline = cells.is_one_of(f"{d}BLFL", "Y") | cells.is_one_of(f"{d}LOBXFL", "Y")
    baseline = kept("BASELINE//" + code, is_baseline)
    known_baseline = latest(known, cells.of_subject("start"))
    return [{"code": code, **result}, {"code": baseline, **result, "known_time": known_baseline}]


def _refuse_undone(cells: Cells) -> None:
    d = cells.domain
    cells.skip("NOT DONE", cells.is_one_of(f"{d}STAT", "NOT DONE"))
    cells.skip("did not occur", cells.is_one_of(f"{d}OCCUR", "N"))


def _result(cells: Cells) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Number, text and unit of a result: as standardised, else as collected."""
    d = cells.domain
    number, said = cells.number(f"{d}STRESN"), cells.text(f"{d}STRESC")
    collected = number.is_null() & said.is_null()
    said = first_of(said, kept(cells.text(f"{d}ORRES"), collected))
    unit = cells.text(f"{d}ORRESU").zip_with(collected, cells.text(f"{d}STRESU"))
    number = first_of(number, said.cast(pl.Float64, strict=False))
    number = kept(number, number.is_finite())
    return compared(number, said, unit)


def compared(number: pl.Series, said: pl.Series, unit: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Number, text and unit, where "<5" is a number with a comparator, and text that repeats the number is none."""
    parts = said.str.extract_groups(COMPARED).struct.unnest()
    limit, comparator = parts.to_series(1).cast(pl.Float64, strict=False), parts.to_series(0)
    is_limit = comparator.is_not_null() & (number.is_null() | (number == limit).fill_null(False))
    words = kept(said, said.cast(pl.Float64, strict=False).is_null())
    number = first_of(number, kept(limit, is_limit))
    return number, comparator.zip_with(is_limit, words), ucum(kept(unit, number.is_not_null()))


def ucum(unit: pl.Series) -> pl.Series:
    """CDISC unit terms that UCUM writes otherwise."""
    return unit.replace(UNITS).str.replace(r"^10\^(\d+)", "10*$1")


def _test_code(cells: Cells) -> pl.Series:
    d = cells.domain
    loinc = cells.text(f"{d}LOINC")
    loinc = kept(loinc, loinc.str.contains(r"^\d{1,7}-\d$"))
    test = cells.upper(f"{d}TESTCD")
    cells.skip("no test code", test.is_null() & loinc.is_null())
    local = f"CDISC//{d}//" + test
    if d == "LB":
        specimen = first_of(cells.upper("LBSPEC"), kept(cells.always("URINE"), cells.is_one_of("LBCAT", "URINALYSIS")))
        local = local + ("//" + kept(specimen, ~specimen.is_in(BLOOD))).fill_null("")
    local = local + ("//" + cells.upper(f"{d}OBJ")).fill_null("")
    return first_of(f"{LOINC}//" + loinc, local)


def _when(cells: Cells, *columns: str, day: str) -> Span:
    """The first date that is there, else the study day counted from RFSTDTC; without either the row is skipped."""
    spans = [cells.span(name) for name in columns]
    found = first_span(*spans, cells.day(day, cells.of_subject("start")))
    cells.skip(NO_DATE, found[0].is_null())
    return found


def occurrences(cells: Cells) -> list[Event]:
    """An adverse event, history or disposition under its MedDRA code, else `CDISC//<domain>//<term>`, and its end.

    It starts when it began (else when it was collected; history without any date: when the subject was enrolled) and
    is known when both had come. `RESOLVED//` carries the outcome. How severe and serious it was is said of its whole
    course: known at its end, else at the subject's end of taking part.
    """
    d = cells.domain
    _refuse_undone(cells)
    start, end = _course(cells)
    collected = cells.span(f"{d}DTC")[1]
    code, name = event_code(cells, d)
    cells.skip("no term", code.is_null())
    cells.skip(NO_DATE, start[0].is_null())
    known = latest(start[1], collected)
    over = known_over(end, known, cells.of_subject("end"))
    return [
        {"code": code, "time": start[0], "known_time": known, "description": name},
        *qualities(cells, code, start[0], over),
        _resolved(cells, code, end, f"{d}OUT"),
        *([_death(cells, start)] if d == "DS" else []),
    ]


def _course(cells: Cells) -> tuple[Span, Span]:
    """Start and end of an event or intervention; null where open."""
    d, reference = cells.domain, cells.of_subject("start")
    enrolled = cells.of_subject("enrolled")
    before = enrolled if d == "MH" else kept(enrolled, cells.is_one_of(f"{d}STRF", "BEFORE"))
    start = first_span(
        cells.span(f"{d}STDTC"),
        cells.day(f"{d}STDY", reference),
        cells.span(f"{d}DTC"),
        cells.day(f"{d}DY", reference),
        (before, before),
    )
    lasted = moved(start[0], cells.text(f"{d}DUR"))
    return start, ended(start, first_span(cells.span(f"{d}ENDTC"), cells.day(f"{d}ENDY", reference), (lasted, lasted)))


def ended(start: Span, end: Span) -> Span:
    """The end, where its span begins before the start but reaches it ("2014-01" after 2014-01-05) from the start on."""
    reaches = ((end[0] < start[0]) & (end[1] >= start[0])).fill_null(False)
    return start[0].zip_with(reaches, end[0]), end[1]


def known_over(end: Span, known: pl.Series, left: pl.Series) -> pl.Series:
    """When the whole course was known: at its end, else when the subject left, and not before it was known at all."""
    return latest(first_of(end[1], left), known)


def closed(start: Span, end: Span) -> Span:
    """The end of what lasted, null where it is not after the start or not given."""
    is_after = (end[1] > start[1]).fill_null(False)
    return kept(end[0], is_after), kept(end[1], is_after)


def event_code(cells: Cells, d: str) -> tuple[pl.Series, pl.Series]:
    """MedDRA's code of the preferred term, else the term itself; and the words for it."""
    meddra = cells.text(f"{d}PTCD")
    meddra = kept(meddra, meddra.str.contains(r"^1\d{7}$"))
    local, name = term_code(cells, d)
    return first_of(f"{MEDDRA}//" + meddra, local), name


def term_code(cells: Cells, d: str) -> tuple[pl.Series, pl.Series]:
    """`CDISC//<domain>//` and the dictionary's term (else the term as reported) in upper case; and the words for it."""
    coded = kept(cells.text(f"{d}DECOD"), ~cells.is_one_of(f"{d}DECOD", *NOT_CODED))
    name = first_of(coded, cells.text(f"{d}TERM", f"{d}TRT"))
    return f"CDISC//{d}//" + upper(name), name


def qualities(cells: Cells, code: pl.Series, start: pl.Series, known: pl.Series) -> list[Event]:
    """Severity (or toxicity grade, as number) and seriousness of an adverse event."""
    d = cells.prefix
    severity, grade = cells.text(f"{d}SEV", f"{d}TOXGR"), cells.text(f"{d}TOXGR")
    grade = grade.str.extract(r"(\d)$").cast(pl.Float64, strict=False)
    times = {"time": start, "known_time": known}
    return [
        {
            "code": kept("SEVERITY//" + code, severity.is_not_null()),
            **times,
            "text_value": severity,
            "numeric_value": grade,
        },
        {"code": kept("SERIOUS//" + code, cells.is_one_of(f"{d}SER", "Y")), **times},
    ]


def _resolved(cells: Cells, code: pl.Series, end: Span, outcome: str) -> Event:
    resolved = kept("RESOLVED//" + code, end[0].is_not_null())
    return {"code": resolved, "time": end[0], "known_time": end[1], "text_value": cells.text(outcome)}


def _death(cells: Cells, start: Span) -> Event:
    """A death that only the disposition tells."""
    is_told = cells.of_subject("is_dead").fill_null(False)
    is_death = cells.is_one_of("DSDECOD", "DEATH") & ~is_told
    return {"code": kept(cells.always(DEATH), is_death), "time": start[0], "known_time": start[1]}


def interventions(cells: Cells) -> list[Event]:
    """A drug or other intervention as `CDISC//<domain>//<name>` with dose and unit, and `STOPPED//` where it ended."""
    d = cells.domain
    _refuse_undone(cells)
    cells.skip("planned, not given", cells.is_one_of(f"{d}MOOD", "SCHEDULED"))
    start, end = _course(cells)
    end = closed(start, end)
    code, name = term_code(cells, d)
    cells.skip("no treatment", code.is_null())
    cells.skip(NO_DATE, start[0].is_null())
    dose = cells.number(f"{d}DOSE")
    how = cells.always(HOW[d]) if d in HOW else cells.nothing()
    # What the patient reports taking is known when it was asked for.
    known = latest(start[1], cells.span(f"{d}DTC")[1])
    given = {"numeric_value": dose, "unit": ucum(kept(cells.text(f"{d}DOSU"), dose.is_not_null())), "text_value": how}
    stopped = kept("STOPPED//" + code, end[0].is_not_null())
    return [
        {
            "code": code,
            "time": start[0],
            "known_time": known,
            "description": name,
            **given,
        },
        {"code": stopped, "time": end[0], "known_time": end[1], "text_value": how},
    ]


def visits(cells: Cells) -> list[Event]:
    """A visit of the trial: `VISIT_START//` and, where it lasted, `VISIT_END//` with the visit's name or number."""
    start = _when(cells, "SVSTDTC", day="SVSTDY")
    end = closed(start, cells.span("SVENDTC"))
    kind = first_of(cells.upper("VISIT"), cells.text("VISITNUM"))
    cells.skip("no visit name", kind.is_null())
    return [
        {"code": "VISIT_START//CDISC//" + kind, "time": start[0], "known_time": start[1]},
        {"code": kept("VISIT_END//CDISC//" + kind, end[0].is_not_null()), "time": end[0], "known_time": end[1]},
    ]


def elements(cells: Cells) -> list[Event]:
    """A part of the trial that the subject went through, as `CDISC//SE//<element>`, and its end."""
    start = _when(cells, "SESTDTC", day="SESTDY")
    end = closed(start, cells.span("SEENDTC"))
    code = "CDISC//SE//" + cells.upper("ETCD", "ELEMENT")
    cells.skip("no element", code.is_null())
    stopped = kept("STOPPED//" + code, end[0].is_not_null())
    return [
        {"code": code, "time": start[0], "known_time": start[1], "description": cells.text("ELEMENT")},
        {"code": stopped, "time": end[0], "known_time": end[1]},
    ]
