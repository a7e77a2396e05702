"""Code mapping on small simulated vocabulary files in Athena's format."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from careloop import InputError
from careloop.clean.faults.mapping import PREFIXES, code_mapped, describe, map_codes, read_vocabulary, unmapped_codes
from careloop.clean.findings import FINDINGS
from careloop.ingest.vocabularies import prefix_of
from careloop.record import Record, conform

COLUMNS = (
    "concept_id", "concept_name", "domain_id", "vocabulary_id", "concept_class_id", "standard_concept", "concept_code",
    "valid_start_date", "valid_end_date", "invalid_reason",
)  # fmt: skip
CONCEPT = """1\tCirrhosis of liver\tCondition\tSNOMED\tx\tS\t19943007\t20000101\t20991231\t
2\tUnspecified "cirrhosis of liver\tCondition\tICD10CM\tx\t\tK74.60\t20000101\t20991231\t
3\tHistory of liver disease\tObservation\tICD10CM\tx\t\tZ87.19\t20000101\t20991231\t
4\tHistory of event\tObservation\tSNOMED\tx\tS\t1340204\t20000101\t20991231\t
5\tDisorder of liver\tCondition\tSNOMED\tx\tS\t235856003\t20000101\t20991231\t
6\tDiabetes with retinopathy\tCondition\tICD9CM\tx\t\t250.50\t20000101\t20991231\t
7\tDiabetes mellitus\tCondition\tSNOMED\tx\tS\t73211009\t20000101\t20991231\t
8\tRetinopathy\tCondition\tSNOMED\tx\tS\t399625000\t20000101\t20991231\t
9\tpenicillin G tablet\tDrug\tNDC\tx\t\t00781178901\t20000101\t20991231\t
10\tpenicillin G\tDrug\tRxNorm\tx\tS\t7980\t20000101\t20991231\t
11\told metformin\tDrug\tRxNorm\tx\t\t999\t20000101\t20200101\tU
12\tmetformin\tDrug\tRxNorm\tx\tS\t6809\t20000101\t20991231\t
13\tvanished code\tCondition\tICD10CM\tx\t\tK00.0\t20000101\t20200101\tD
14\treused, old meaning\tCondition\tICD10CM\tx\t\tR99.9\t20000101\t20100101\tD
15\treused, new meaning\tCondition\tICD10CM\tx\t\tR99.9\t20100101\t20991231\t
16\twithdrawn target\tCondition\tSNOMED\tx\t\t111\t20000101\t20200101\tD
17\tclass, no target\tDrug\tATC\tx\tC\tA10BA02\t20000101\t20991231\t
18\ta drug of the extension\tDrug\tRxNorm Extension\tx\tS\tOMOP1\t20000101\t20991231\t
19\tCreatinine\tMeasurement\tLOINC\tx\tS\t2160-0\t20000101\t20991231\t
20\tbiguanides\tDrug\tATC\tx\tC\tA10BA\t20000101\t20991231\t
"""
RELATIONSHIP = """concept_id_1\tconcept_id_2\trelationship_id\tvalid_start_date\tvalid_end_date\tinvalid_reason
1\t1\tMaps to\t20000101\t20991231\t
2\t1\tMaps to\t20000101\t20991231\t
2\t5\tMaps to\t20000101\t20200101\tD
1\t2\tMapped from\t20000101\t20991231\t
3\t4\tMaps to\t20000101\t20991231\t
3\t5\tMaps to value\t20000101\t20991231\t
6\t7\tMaps to\t20000101\t20991231\t
6\t8\tMaps to\t20000101\t20991231\t
9\t10\tMaps to\t20000101\t20991231\t
11\t12\tMaps to\t20000101\t20991231\t
14\t8\tMaps to\t20000101\t20991231\t
15\t7\tMaps to\t20000101\t20991231\t
13\t16\tMaps to\t20000101\t20991231\t
17\t12\tATC - RxNorm\t20000101\t20991231\t
"""
ANCESTOR = """ancestor_concept_id\tdescendant_concept_id\tmin_levels_of_separation\tmax_levels_of_separation
1\t1\t0\t0
5\t1\t1\t2
7\t1\t2\t2
20\t17\t1\t1
"""
CODES = [
    "SNOMED//19943007", "ICD10CM//K74.60", "ICD10CM//Z87.19", "ICD9CM//250.50", "NDC//00781178901",
    "ALLERGY//NDC//00781178901", "RXNORM//999", "ICD10CM//K00.0", "ICD10CM//R99.9", "ATC//A10BA02", "RXNORM//OMOP1",
    "LOINC//2160-0//HIGH", "STOPPED//RXNORM//999", "LOCAL//crea", "MEDS_BIRTH", "CARELOOP//NOTE//unit",
    "FAMILY//mother//ICD10CM//K74.60",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    concept = "\t".join(COLUMNS) + "\n" + CONCEPT
    for name, text in (("CONCEPT", concept), ("CONCEPT_RELATIONSHIP", RELATIONSHIP), ("CONCEPT_ANCESTOR", ANCESTOR)):
        (tmp_path / f"{name}.csv").write_text(text)
    return tmp_path


def test_maps_to_is_followed_and_roles_stay(folder: Path) -> None:
    mapping = map_codes(CODES, read_vocabulary(folder, CODES))
    assert mapping.rows() == [
        ("ICD10CM//K74.60", "SNOMED//19943007", "Maps to", 1),
        ("ICD10CM//Z87.19", "SNOMED//1340204", "Maps to", 2),
        ("ICD10CM//Z87.19", "SNOMED//235856003", "Maps to value", 2),
        ("ICD9CM//250.50", "SNOMED//399625000", "Maps to", 2),
        ("ICD9CM//250.50", "SNOMED//73211009", "Maps to", 2),
        ("NDC//00781178901", "RXNORM//7980", "Maps to", 1),
        ("ALLERGY//NDC//00781178901", "ALLERGY//RXNORM//7980", "Maps to", 1),
        ("RXNORM//999", "RXNORM//6809", "Maps to", 1),
        ("ICD10CM//R99.9", "SNOMED//73211009", "Maps to", 1),
        ("STOPPED//RXNORM//999", "STOPPED//RXNORM//6809", "Maps to", 1),
        ("FAMILY//mother//ICD10CM//K74.60", "FAMILY//mother//SNOMED//19943007", "Maps to", 1),
    ]


def test_only_the_wanted_vocabularies_and_what_is_left(folder: Path) -> None:
    vocabulary = read_vocabulary(folder, CODES)
    assert set(map_codes(CODES, vocabulary, to=["RXNORM"])["code"]) == {
        "NDC//00781178901", "ALLERGY//NDC//00781178901", "RXNORM//999", "STOPPED//RXNORM//999",
    }  # fmt: skip
    assert unmapped_codes(CODES, vocabulary).rows() == [
        ("ICD10CM//Z87.19", "several standard codes"),
        ("ICD9CM//250.50", "several standard codes"),
        ("ICD10CM//K00.0", "no valid standard code"),
        ("ATC//A10BA02", "no valid standard code"),
        ("LOCAL//crea", "not in the vocabulary files"),
    ]


def test_descriptions_and_parents_go_into_the_record(folder: Path, tmp_path: Path) -> None:
    described = describe(CODES, read_vocabulary(folder, CODES))
    found = {code: (name, parents) for code, name, parents in described.rows()}
    assert found["SNOMED//19943007"] == ("Cirrhosis of liver", ["SNOMED//235856003"])
    assert found["ICD10CM//K74.60"] == ('Unspecified "cirrhosis of liver', ["SNOMED//19943007"])
    assert found["ALLERGY//NDC//00781178901"] == ("penicillin G tablet", ["ALLERGY//RXNORM//7980"])
    assert found["ICD9CM//250.50"][1] == ["SNOMED//399625000", "SNOMED//73211009"]
    assert found["ICD10CM//Z87.19"] == ("History of liver disease", ["SNOMED//1340204"])
    assert found["ATC//A10BA02"] == ("class, no target", ["ATC//A10BA"])
    assert found["LOINC//2160-0//HIGH"] == ("Creatinine", None)
    assert found["ICD10CM//R99.9"][0] == "reused, new meaning"
    assert found["ICD10CM//K00.0"] == ("vanished code", None)
    assert "LOCAL//crea" not in found
    record = Record.create(tmp_path / "record").describe_codes(described)
    assert record.code_metadata().height == described.height


def test_one_to_one_replaces_and_several_are_flagged(folder: Path) -> None:
    mapping = map_codes(CODES, read_vocabulary(folder, CODES))
    codes = ["ICD9CM//250.50", "ICD10CM//K74.60", "SNOMED//19943007", "ALLERGY//NDC//00781178901", "LOCAL//crea"]
    events = conform(pl.DataFrame({"subject_id": 1, "time": "2020-01-01", "code": codes})).with_row_index("row")
    found = code_mapped(events, mapping)
    assert found.schema == FINDINGS
    assert found.select("row", "rule", "action", "after_code").sort("row").rows() == [
        (0, "code_mapped", "flagged", None),
        (1, "code_mapped", "changed", "SNOMED//19943007"),
        (3, "code_mapped", "changed", "ALLERGY//RXNORM//7980"),
    ]
    mapped = events.with_columns(code=pl.col("code").replace(dict(mapping.select("code", "mapped_code").rows())))
    again = map_codes(mapped["code"], read_vocabulary(folder, mapped["code"]))
    assert code_mapped(mapped, again).is_empty(), "what is standard stays as it is"


def test_parquet_and_other_case_are_read_too(folder: Path) -> None:
    plain = read_vocabulary(folder, CODES)
    for file in sorted(folder.glob("*.csv")):
        frame = pl.read_csv(file, separator="\t", quote_char=None, null_values="", infer_schema_length=None)
        frame.rename(str.upper).write_parquet(file.with_name(f"{file.stem.lower()}.parquet"))
        file.unlink()
    again = read_vocabulary(folder, CODES)
    for name in ("concepts", "maps", "parents"):
        assert getattr(again, name).equals(getattr(plain, name))


def test_files_that_are_missing_or_other(folder: Path) -> None:
    (folder / "CONCEPT_ANCESTOR.csv").unlink()
    assert read_vocabulary(folder, CODES).parents.is_empty()
    (folder / "CONCEPT_RELATIONSHIP.csv").write_text("concept_id_1,concept_id_2\n1,2\n")
    with pytest.raises(InputError, match="no column concept_id_1"):
        read_vocabulary(folder, CODES)
    (folder / "CONCEPT_RELATIONSHIP.csv").unlink()
    with pytest.raises(InputError, match=r"no CONCEPT_RELATIONSHIP.csv"):
        read_vocabulary(folder, CODES)
    (folder / "CONCEPT.csv").write_bytes(b"")
    with pytest.raises(InputError, match=r"CONCEPT.csv"):
        read_vocabulary(folder, CODES)
    with pytest.raises(InputError, match=r"no CONCEPT\.csv"):
        read_vocabulary(folder / "nothing", CODES)


def test_prefixes_are_those_of_ingested_codes() -> None:
    names = ["SNOMED", "LOINC", "ICD10CM", "ICD10", "ICD9CM", "ICD10PCS", "ATC", "CPT4", "HCPCS", "NDC", "CVX", "ICDO3"]
    assert all(PREFIXES.get(name, name) == prefix_of(name) for name in [*names, *PREFIXES, "UCUM", "Visit", "Gender"])
