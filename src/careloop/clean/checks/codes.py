"""What a code says about itself: vocabulary, kind of fact, whether it has its vocabulary's shape, and whose sex."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import polars as pl

from careloop.clean.faults.plausible import sex_codes
from careloop.record import BIRTH, DEATH

KINDS = (
    "persons", "visits", "conditions", "measurements", "medications", "procedures", "reports and images", "other",
)  # fmt: skip
# Shapes as the terminologies publish them; where dots are optional hospitals leave them out.
SHAPES = {
    "ATC": r"[A-Z](\d\d([A-Z]([A-Z](\d\d)?)?)?)?",
    "CDT": r"D\d{4}",
    "CPT4": r"\d{4}[0-9AFMTU](-[0-9A-Z]{2})?",
    "CVX": r"\d{1,3}",
    "HCPCS": r"[A-Z]\d{4}(-[0-9A-Z]{2})?",
    "HGNC": r"(HGNC:)?\d{1,6}",
    "ICD10": r"[A-Z]\d\d(\.?[0-9X]{1,3})?[*+!†]?",
    "ICD10CM": r"[A-Z]\d[0-9AB](\.?[0-9A-Z]{1,4})?",
    "ICD10PCS": r"[0-9A-HJ-NP-Z]{7}",
    "ICD9CM": r"\d{3}(\.?\d{1,2})?|E\d{3}(\.?\d)?|V\d\d(\.?\d{1,2})?",
    "ICD9PROC": r"\d\d(\.?\d{1,2})?",
    "ICDO3": r"\d{4}/\d(-C\d\d\.?\d)?|C\d\d(\.?\d)?",
    "LOINC": r"\d{1,7}-\d|(LP|LA|LL|LG)\d+-\d",
    "MEDDRA": r"\d{8}",
    "NDC": r"\d{9,11}|\d{4,5}-\d{3,4}-\d{1,2}",
    "RXNORM": r"\d{1,8}|OMOP\d+",  # RxNorm Extension numbers its own concepts OMOP...
    "SNOMED": r"[1-9]\d{5,17}",
    "UNII": r"[0-9A-Z]{10}",
}
_SHAPES = {vocabulary: re.compile(shape) for vocabulary, shape in SHAPES.items()}
OWN_CHECK = {
    "LOINC": "loinc_check_digit",
    "SNOMED": "snomed_check_digit",
    "ICD10CM": "icd10cm_shape",
    "RXNORM": "rxnorm_digits",
}
OTHER_CHECK = "other_code_shape"
# The Regenstrief Institute's list of codes issued with a wrong digit (LOINC Users' Guide, Calculating Mod 10).
LOINC_ISSUED_WRONG = frozenset(
    {
        "11491-6", "11501-6", "5895-7", "5896-5", "5897-3", "5928-1", "6028-3", "6415-5", "6580-7", "6645-7",
        "6646-5", "6647-3", "6648-1", "6649-9",
    }
)  # fmt: skip
# Words before a code that say its role: `RESOLVED//ICD10CM//K74.60` is the end of K74.60.
_ROLES = {
    "RESOLVED": "conditions", "ALLERGY": "conditions", "FAMILY": "conditions", "STOPPED": "medications",
    "ORDER": "procedures", "SPECIMEN": "reports and images", "REPORT": "reports and images",
    "DOCUMENT": "reports and images",
    "IMAGING": "reports and images", "VISIT_START": "visits", "VISIT_END": "visits", "GENDER": "persons",
    "SEX": "persons", "RACE": "persons", "ETHNICITY": "persons", "LANGUAGE": "persons", "MARITAL": "persons",
}  # fmt: skip
_KIND = {
    "ATC": "medications", "CVX": "medications", "NDC": "medications", "RXNORM": "medications", "UNII": "medications",
    "CDT": "procedures", "CPT4": "procedures", "HCPCS": "procedures", "ICD10PCS": "procedures",
    "ICD9PROC": "procedures", "ICD10": "conditions", "ICD10CM": "conditions", "ICD9CM": "conditions",
    "ICDO3": "conditions", "MEDDRA": "conditions", "SNOMED": "conditions", "LOINC": "measurements",
}  # fmt: skip
_SPELT = {name: name for name in SHAPES} | {
    "CPT": "CPT4", "SCT": "SNOMED", "SNOMEDCT": "SNOMED", "SNOMEDCTUS": "SNOMED",
    "ICD9": "ICD9CM", "LN": "LOINC", "RXCUI": "RXNORM", "RXN": "RXNORM",
}  # fmt: skip
# D5's multiplication table and Verhoeff's permutation (SNOMED CT Release File Specification 6.4.2).
_D5 = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTED = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


class CodeFacts(NamedTuple):
    """What is known from the code alone; `shape_check` is the check it is subject to, null where it has none."""

    vocabulary: str
    kind: str
    standard: bool | None
    known_vocabulary: bool
    shape_check: str | None
    well_formed: bool
    sex: Literal["F", "M"] | None


FACTS = pl.Schema(
    {
        "code": pl.String(),
        "vocabulary": pl.String(),
        "kind": pl.String(),
        "standard": pl.Boolean(),
        "known_vocabulary": pl.Boolean(),
        "shape_check": pl.String(),
        "well_formed": pl.Boolean(),
        "code_sex": pl.String(),
    }
)


def code_facts(codes: pl.Series) -> pl.DataFrame:
    """Return `facts_of` each code, one row a code (columns of `FACTS`)."""
    return pl.DataFrame([(code, *facts_of(code)) for code in codes], schema=FACTS, orient="row")


@lru_cache(maxsize=200_000)
def facts_of(code: str) -> CodeFacts:
    """Return what `code` says about itself; `standard` is null for what no terminology codes (birth, visits, sex)."""
    if code in (BIRTH, DEATH):
        return CodeFacts("MEDS", "persons", None, True, None, True, None)
    parts = code.removesuffix("//LOW").removesuffix("//HIGH").split("//")
    role = parts[0] if parts[0] in _ROLES else None
    if role:
        parts = parts[2:] if role == "FAMILY" else parts[1:]
    if role and (len(parts) < 2 or _ROLES[role] in {"persons", "visits"}):
        return CodeFacts(role, _ROLES[role], None, True, None, True, None)
    if len(parts) < 2:
        return CodeFacts("(none)", "other", False, code in _ROLES, None, True, None)
    vocabulary, value = parts[0], "//".join(parts[1:])
    standard = vocabulary in SHAPES
    kind = _ROLES[role] if role else _KIND.get(vocabulary, "other")
    check = OWN_CHECK.get(vocabulary, OTHER_CHECK) if standard else None
    # An allergy or a relative's condition is not the patient's own state.
    sex = _sex(f"{vocabulary}//{value}") if role in {None, "RESOLVED"} else None
    return CodeFacts(
        vocabulary, kind, standard, _is_spelt_right(vocabulary), check, not standard or fits(vocabulary, value), sex
    )


def fits(vocabulary: str, value: str) -> bool:
    """True where `value` has the shape of a code of this standard vocabulary, check digits included."""
    if not _SHAPES[vocabulary].fullmatch(value):
        return False
    if vocabulary == "LOINC":
        return value.startswith("L") or value in LOINC_ISSUED_WRONG or loinc_digit(value[:-2]) == int(value[-1])
    if vocabulary == "SNOMED":
        # Events hold concepts: partitions 00 (international) and 10 (extensions), not descriptions or relationships.
        return value[-3:-1] in {"00", "10"} and verhoeff_holds(value)
    return True


def loinc_digit(number: str) -> int:
    """Return the check digit of a LOINC number (without dash): modulo 10, from the right every other digit doubled."""
    doubled = str(2 * int(number[::-1][::2][::-1]))
    return -sum(int(digit) for digit in number[::-1][1::2] + doubled) % 10


def verhoeff_holds(digits: str) -> bool:
    """True where the last of these digits is the Verhoeff check digit of the others."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_D5[check][int(_PERMUTED[place % 8][int(digit)])])
    return check == 0


def suggested_vocabulary(vocabulary: str) -> str | None:
    """Return how a standard vocabulary spelt otherwise (`icd-10-cm`) is written here; None for local ones."""
    meant = _SPELT.get(re.sub(r"[^A-Z0-9]", "", vocabulary.upper()))
    return meant if meant != vocabulary else None


def _is_spelt_right(vocabulary: str) -> bool:
    return bool(vocabulary.strip()) and suggested_vocabulary(vocabulary) is None


def _sex(code: str) -> Literal["F", "M"] | None:
    exact, prefixes = _sex_codes()
    return exact.get(code) or next((sex for prefix, sex in prefixes if code.startswith(prefix)), None)


@lru_cache(maxsize=1)
def _sex_codes() -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    rows = sex_codes().select("code", "sex").rows()
    prefixes = [(code[:-1], sex) for code, sex in rows if code.endswith("*")]
    return {code: sex for code, sex in rows if not code.endswith("*")}, prefixes
