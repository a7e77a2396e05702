"""What the terminal says holds the counts that matter, and no file name or patient."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from careloop.clean.privacy.anonymity import check_anonymity
from careloop.clean.privacy.dicom import DeidentifiedDicom
from careloop.clean.privacy.release import DeidentificationSummary
from careloop.clean.privacy.told import anonymity_in_words, dicom_in_words, record_in_words


def test_record() -> None:
    summary = DeidentificationSummary(40, 1200, 1000, 2, 3, {"place": 200}, {}, ("a risk",), 4)
    assert record_in_words(summary, Path("out"), Path("k/key")).splitlines() == [
        "out: 1,000 of 1,200 events of 40 patients.",
        "Rare codes: 2 made more general, 3 dropped.",
        "Events removed:",
        "  place: 200",
        "Read what may still be found out before it leaves the house: out/deidentification.txt",
        "Whoever holds k/key and the original record can link patients back: keep the key apart.",
        "Then look for people who stand alone: careloop anonymity",
    ]


def test_dicom() -> None:
    done = DeidentifiedDicom(5, 2, 1, (("Roux/1", "not DICOM"), ("Roux/2", "not DICOM")), {"removed": 3})
    text = dicom_in_words(done, Path("out"))
    assert "out: 2 of 5 files written, 1 there before." in text
    assert "Refused:\n  not DICOM: 2" in text
    assert "Roux" not in text
    assert "Roux" not in str(done.to_json())
    assert done.to_json()["refused"] == {"not DICOM": 2}


def test_anonymity() -> None:
    people = pl.DataFrame({"sex": ["F"] * 6 + ["M"] * 5, "year": [1960] * 10 + [1931], "disease": ["a", *"b" * 10]})
    report = check_anonymity(people, quasi_identifiers=["sex", "year"], k=5, sensitive=["disease"])
    text = anonymity_in_words(report)
    assert "5-anonymity of 11 people by sex, year: FAILED." in text
    assert "5 people (45.5%) are in classes below 5, 1 of them alone." in text
    assert "l-diversity is 1; 5 people" in text
    assert "  year: 1" in text
    assert "drop the people in classes below 5: 0" in text
    passed = anonymity_in_words(check_anonymity(people.head(10), quasi_identifiers=["sex"], k=4))
    assert "4-anonymity of 10 people by sex: passed." in passed
    assert len(passed.splitlines()) == 2
