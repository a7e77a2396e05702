"""The data quality report: everything that fails is on the page, nothing is loaded, and a shared one names nobody."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop.clean.check import check_record
from careloop.clean.checks.results import QualityReport
from careloop.record import Record, conform
from careloop.report.quality import CATEGORY, percent, quality_summary, suppressed, write_quality

START = datetime(2018, 1, 1, 8, tzinfo=UTC)
GLUCOSE, WEIGHT, SODIUM = "LOINC//2345-7", "LOINC//29463-7", "LOINC//2951-2"
EVIL = "<script>alert('x')</script>"


def events() -> pl.DataFrame:
    """Simulated patients with mixed-up glucoses and weights, sentinels, impossible values, and events after death."""
    rng = np.random.default_rng(8)
    rows = []
    for subject in range(200):
        birth = START - timedelta(days=int(rng.integers(20, 80) * 365))
        rows += [
            {"subject_id": subject, "time": birth, "code": "MEDS_BIRTH"},
            {"subject_id": subject, "time": None, "code": f"GENDER//{'FM'[subject % 2]}"},
        ]
        own = rng.normal()
        for visit in range(5):
            time = START + timedelta(days=200 * visit + int(rng.integers(0, 60)), minutes=int(rng.integers(0, 600)))
            glucose, weight = (
                100 * np.exp(0.2 * own + 0.1 * rng.normal()),
                80 * np.exp(0.18 * own + 0.02 * rng.normal()),
            )
            values = {
                GLUCOSE: glucose / 18.02 if rng.random() < 0.1 else glucose,
                WEIGHT: weight * 2.2046 if rng.random() < 0.1 else weight,
                SODIUM: 999.0 if rng.random() < 0.03 else 140 + 3 * rng.normal(),
            }
            for code, value in values.items():
                unit = {GLUCOSE: "mg/dL", WEIGHT: "kg", SODIUM: "mmol/L"}[code]
                source = f"LAB//results/{subject}-{visit}-{code[-6:]}"
                rows.append(
                    {"subject_id": subject, "time": time, "known_time": time + timedelta(hours=1), "code": code,
                     "numeric_value": round(float(value), 1), "unit": unit, "source": source}
                )  # fmt: skip
    for subject in range(40):
        death = START + timedelta(days=1500)
        given = START + timedelta(days=1600 if subject < 3 else 900, hours=subject)
        rows.append({"subject_id": subject, "time": death, "code": "MEDS_DEATH"})
        rows.append(
            {"subject_id": subject, "time": given, "code": "RXNORM//6809", "source": f"HIS//drugs/{subject}{EVIL}"}
        )
    return conform(pl.DataFrame(rows, infer_schema_length=None))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> QualityReport:
    record = Record.create(tmp_path_factory.mktemp("quality") / "record", shards=2).append(events(), key="simulated")
    described = pl.DataFrame({"code": [GLUCOSE, WEIGHT], "description": [f"Glucose {EVIL}", "Body weight"]})
    return check_record(record.describe_codes(described))


@pytest.fixture(scope="module")
def page(report: QualityReport, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "quality.html"
    write_quality(report, path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shared(report: QualityReport, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("shared") / "quality.html"
    write_quality(report, path, audience="shared")
    return path.read_text(encoding="utf-8")


def words(page: str) -> str:
    return " ".join(
        html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|svg).*?</\1>", " ", page, flags=re.S))).split()
    )


def test_every_check_is_on_the_page_with_its_result(report: QualityReport, page: str) -> None:
    text = words(page)
    assert {"unit_mixup", "sentinel_values", "after_death"} <= {result.check.id for result in report.failures}
    for result in report.checks:
        assert result.check.asks in text
        assert result.check.id in text
    for result in report.failures:
        assert f'id="{result.check.id}"' in page
        assert all(part.strip(" .") in text for part in result.check.remedy.split("`"))
    for name in CATEGORY.values():
        assert name in text
    counts = [report.count(status) for status in ("fail", "pass", "not applicable")]
    assert f"{counts[0]} checks fail {counts[1]} pass {counts[2]} not applicable" in text
    assert "Not for clinical use" in text
    assert f"Record version {report.record_version}" in text


def test_the_page_loads_nothing_and_runs_nothing(page: str, shared: str) -> None:
    for text in (page, shared):
        assert "<script" not in text
        assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", text)
        assert not re.search(r"url\((?!#)|@import|javascript:", text)
        links = set(re.findall(r'href="#([^"]+)"', text))
        anchors = set(re.findall(r'id="([^"]+)"', text))
        assert links <= anchors


def test_what_comes_from_the_record_is_text(page: str) -> None:
    assert html.escape(EVIL, quote=False).split("(")[0] in page
    assert "alert('x')</script>" not in page


def test_examples_are_marked_as_patients_data(report: QualityReport, page: str) -> None:
    failed = next(result for result in report.failures if result.check.id == "sentinel_values")
    assert "Examples: patients' data" in words(page)
    assert "keep it inside the hospital" in page
    for example in failed.examples:
        assert example.source is not None
        assert html.escape(example.source) in page


def test_a_shared_page_names_no_event_and_no_small_group(report: QualityReport, page: str, shared: str) -> None:
    for result in report.checks:
        for example in (*result.examples, *(e for part in result.parts for e in part.examples)):
            assert example.source is None or html.escape(example.source) not in shared
    text = words(shared)
    assert "Examples" not in text
    assert "fewer than 11 of" in text, "three patients have events after their death"
    assert "3 of 40 events" not in text
    assert "3 of 40 events" in words(page)


def test_suspicious_parts_of_distributions_are_marked(report: QualityReport, page: str) -> None:
    shapes = {shape.code: shape for shape in report.distributions}
    assert shapes[SODIUM].sentinels == (999.0,)
    (glucose,) = shapes[GLUCOSE].components
    (weight,) = shapes[WEIGHT].components
    assert (glucose.name, glucose.overlaps) == ("mmol/L", False)
    assert glucose.low < 5.5 < glucose.high < 60
    assert (weight.name, weight.overlaps) == ("[lb_av]", True)
    assert 100 < weight.low < 176 < weight.high < 300
    assert "999 stands for missing" in words(page)
    figures = page[page.index('id="values"') : page.index('id="details"')]
    orange = "#d55e00"
    assert figures.lower().count(orange) >= 3


def test_the_summary_says_what_fails_by_area_and_names_no_patient(report: QualityReport) -> None:
    text = quality_summary(report)
    failed, passed = report.count("fail"), report.count("pass")
    assert f"{failed} checks fail, {passed} pass" in text
    assert "not for clinical use" in text
    for name in CATEGORY.values():
        assert name in text
    for result in report.checks:
        for example in result.examples:
            assert example.source is None or example.source not in text


def test_a_record_with_nothing_in_it_has_a_page(tmp_path: Path) -> None:
    report = check_record(Record.create(tmp_path / "record"))
    write_quality(report, tmp_path / "quality.html")
    assert "No check fails" in (tmp_path / "quality.html").read_text()
    assert "0 events of 0 patients" in quality_summary(report)


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ([50, 30, 12], [50, 30, 12]),
        ([50, 3, 30, 12], [50, None, 30, None]),
        ([50, 3, 4, 12], [50, None, None, None]),  # the total less the others would say that 7 people are in two
        ([50, 8, 9, 12], [50, None, None, 12]),
        ([0, 50], [0, 50]),
        ([3], [None]),
        ([], []),
    ],
)
def test_small_groups_cannot_be_worked_out_from_the_total(counts: list[int], kept: list[int | None]) -> None:
    assert suppressed(counts, 11) == kept


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "–"), (0.0, "0 %"), (0.0004, "under 0.1 %"), (0.05, "5.0 %"), (0.5, "50 %"), (1.0, "100 %")],
)
def test_shares_are_never_rounded_to_nothing(share: float | None, text: str) -> None:
    assert percent(share).replace("\u00a0", " ") == text
