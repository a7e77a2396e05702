"""The list of factors: what ships is complete and cited, and what a hospital writes wrongly is told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from careloop import InputError
from careloop.plan.document.lifestyle import read_factors, shipped_factors

GOOD = """
version: hospital 3
factors:
  - name: weight
    words: {en: weight, zh: 体重}
    action: {en: lose weight, zh: 减重}
    better: lower
    codes: {LOINC//39156-5: {target: 23.9, units: [kg/m2]}}
    citation: WS/T 428-2013
    licence: a standard's value
"""


def test_shipped_factors_cover_the_usual_ones_in_both_languages_with_source_and_licence() -> None:
    factors = {factor.name: factor for factor in shipped_factors().factors}
    assert set(factors) == {
        "smoking", "weight", "activity", "systolic_blood_pressure", "ldl_cholesterol", "total_cholesterol", "alcohol",
    }  # fmt: skip
    for factor in factors.values():
        assert set(factor.words) == set(factor.action) == {"en", "zh"}
        assert factor.codes
        assert any(character > "一" for character in factor.words["zh"])
        assert "20" in factor.citation or "Centers" in factor.citation
        assert factor.licence


def test_a_target_in_two_units_is_one_value() -> None:
    """Cholesterol: 1 mmol/L is 38.67 mg/dL."""
    codes = {code: target for factor in shipped_factors().factors for code, target in factor.codes.items()}
    for mass, molar in (("LOINC//2089-1", "LOINC//22748-8"), ("LOINC//2093-3", "LOINC//14647-2")):
        assert codes[mass].target == pytest.approx(38.67 * codes[molar].target, rel=0.01)


def test_a_hospital_gives_its_own(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(GOOD, encoding="utf-8")
    read = read_factors(tmp_path / "own.yaml")
    assert read.version == "hospital 3"
    assert read.factors[0].codes["LOINC//39156-5"].target == 23.9


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("better: lower", "better: smaller", "factors.0.better"),
        ("target: 23.9", "target: .nan", "target"),
        ("    citation: WS/T 428-2013\n", "", "citation"),
        ("version: hospital 3", "version: [", "not valid YAML"),
        ("zh: 减重", "fr: maigrir", "action"),
        (", zh: 体重", "", "words.*en and zh"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        read_factors(tmp_path / "own.yaml")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_factors(tmp_path / "none.yaml")
