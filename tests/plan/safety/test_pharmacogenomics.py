"""Pharmacogenomics: planted cases and look-alikes, phenotypes beside pypgx's own, notation, events, missing results."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.pharmacogenes.genotype_events import genotype_code, genotypes_of
from careloop.genome.pharmacogenes.guidelines import read_guidelines
from careloop.genome.pharmacogenes.phenotypes import (
    CONFLICT,
    INDETERMINATE,
    NEGATIVE,
    POSITIVE,
    TABLES,
    Genotype,
    carrier,
    genotype,
    of_score,
    table,
)
from careloop.plan.safety.finding import Finding
from careloop.plan.safety.pharmacogenomics import pharmacogenomic_findings
from careloop.record import EVENTS, conform, history

HERE = Path(__file__).parent
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
FLAGGED = ("block", "ask", "caution")


def rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def known(text: str) -> dict[str, Genotype]:
    """`CYP2D6=*4/*4 ; CYP2C19=*1/*1` as genotypes by gene."""
    parts = [part.split("=", 1) for part in text.split(" ; ") if part]
    return {gene.strip(): genotype(gene.strip(), result.strip()) for gene, result in parts}


def found(drug: str, results: str = "") -> list[Finding]:
    return pharmacogenomic_findings("an option", [drug], known(results))


def severities(drug: str, results: str = "") -> set[str]:
    return {finding.severity for finding in found(drug, results)}


# --- the planted cases and their look-alikes (pgx_cases.csv; each planted one with its guideline's PMID)

CASES = rows("pgx_cases.csv")
PLANTED = [case for case in CASES if case["severity"] != "none"]
HARMLESS = [case for case in CASES if case["severity"] == "none"]


def test_there_are_enough_cases() -> None:
    assert len(PLANTED) >= 20
    assert len(HARMLESS) >= 20
    assert all(case["pmid"] for case in PLANTED)


@pytest.mark.parametrize("case", PLANTED, ids=lambda case: f"{case['drug']}-{case['results']}")
def test_planted_case_is_caught_with_its_citation(case: dict[str, str]) -> None:
    findings = [each for each in found(case["drug"], case["results"]) if each.severity == case["severity"]]
    assert findings, case["why"]
    assert f"PMID {case['pmid']}" in findings[0].citation
    assert findings[0].remedy
    assert findings[0].kind == "pharmacogenomics"


@pytest.mark.parametrize("case", HARMLESS, ids=lambda case: f"{case['drug']}-{case['results']}")
def test_harmless_look_alike_is_not_flagged(case: dict[str, str]) -> None:
    assert severities(case["drug"], case["results"]).isdisjoint(FLAGGED), case["why"]


# --- phenotypes

CALLS = rows("pgx_calls.csv")


@pytest.mark.parametrize("gene", sorted({call["gene"] for call in CALLS}))
def test_phenotypes_are_those_of_pypgx(gene: str) -> None:
    """pgx_calls.csv: pypgx 0.27.0's `predict_phenotype` for 451 diplotypes, in an environment of its own.

    benchmarks/pgx_tables.py wrote it (`calls`) and compares all 40,218 diplotypes (`compare`).
    """
    for call in CALLS:
        if call["gene"] == gene:
            assert genotype(gene, call["diplotype"]).phenotype == call["phenotype"], call


NAMES = {
    gene: [row["allele"] for row in table("alleles") if row["gene"] == gene] for gene in ("CYP2D6", "DPYD", "G6PD")
}


@given(data=st.data(), gene=st.sampled_from(sorted(NAMES)))
def test_order_of_alleles_does_not_matter(data: st.DataObject, gene: str) -> None:
    first, second = (data.draw(st.sampled_from(NAMES[gene])) for _ in range(2))
    copies = data.draw(st.sampled_from(["", "x2", "x3", "xN"])) if gene == "CYP2D6" else ""
    one, other = genotype(gene, f"{first}{copies}/{second}"), genotype(gene, f"{second}|{first}{copies}")
    assert (one.phenotype, one.score) == (other.phenotype, other.score)


@given(text=st.text(max_size=12), gene=st.sampled_from(["CYP2D6", "DPYD", "TPMT", "G6PD", "VKORC1"]))
def test_what_is_not_understood_is_never_normal(text: str, gene: str) -> None:
    result = genotype(gene, f"*9999{text}?/*1")
    assert result.phenotype in (INDETERMINATE, "G6PD Indeterminate")
    assert result.score is None


@pytest.mark.parametrize(
    ("gene", "recorded", "phenotype", "score"),
    [
        ("CYP2D6", "*4/*10x2", "Intermediate Metabolizer", 0.5),
        ("CYP2D6", "CYP2D6 *4 / *10X2", "Intermediate Metabolizer", 0.5),
        ("CYP2D6", "CYP2D6*10×2|*4", "Intermediate Metabolizer", 0.5),
        ("CYP2D6", "(*36+*10)/*41", "Intermediate Metabolizer", 0.75),
        ("CYP2D6", "*4.001/*4.012", "Poor Metabolizer", 0),
        ("CYP2D6", "*1xN/*1", "Ultrarapid Metabolizer", None),
        ("CYP2D6", "*1x≥3/*4", "Ultrarapid Metabolizer", None),
        ("CYP2D6", "*1xN/*4", INDETERMINATE, None),  # 2 copies would be normal
        ("CYP2D6", "*4xN/*4", "Poor Metabolizer", 0),
        ("CYP2D6", "*1/*22", INDETERMINATE, None),
        ("CYP2D6", "*4", INDETERMINATE, None),
        ("CYP2D6", "*1/*1/*4", INDETERMINATE, None),
        ("CYP2D6", "AS 1.25", "Normal Metabolizer", 1.25),
        ("CYP2D6", "Activity score: 0.25", "Intermediate Metabolizer", 0.25),
        ("CYP2D6", "extensive metabolizer", "Normal Metabolizer", None),
        ("CYP2D6", "Ultra-rapid metaboliser", "Ultrarapid Metabolizer", None),
        ("CYP2C19", "PM", "Poor Metabolizer", None),
        ("CYP2C19", "2/17", "Intermediate Metabolizer", None),
        ("CYP2C19", "CYP2C19 Likely Intermediate Metabolizer", "Likely Intermediate Metabolizer", None),
        ("CYP2C9", "*2/*3", "Poor Metabolizer", 0.5),
        ("CYP2C9", "AS 2.5", INDETERMINATE, None),  # no two alleles give it
        ("DPYD", "*1/*2A", "Intermediate Metabolizer", 1),
        ("DPYD", "c.1129-5923C>G/HapB3", "Intermediate Metabolizer", 1),
        ("TPMT", "*1/*3A or *3B/*3C", INDETERMINATE, None),  # not phased: intermediate or poor
        ("TPMT", "*2/*3A or *3B/*3C", "Poor Metabolizer", None),
        ("G6PD", "A-", "G6PD Deficient", None),
        ("G6PD", "deficient", "G6PD Deficient", None),
        ("SLCO1B1", "Decreased function", "Decreased Function", None),
        ("SLCO1B1", "PM", INDETERMINATE, None),  # a transporter does not metabolise
        ("MT-RNR1", "m.1555A>G", "Increased Risk of Aminoglycoside-Induced Hearing Loss", None),
        ("VKORC1", "C/T", "-1639 AG", None),
        ("VKORC1", "-1639GA", "-1639 AG", None),
        ("NOSUCH1", "*1/*1", INDETERMINATE, None),
    ],
)
def test_notations(gene: str, recorded: str, phenotype: str, score: float | None) -> None:
    result = genotype(gene, recorded)
    assert (result.phenotype, result.score) == (phenotype, score)


@pytest.mark.parametrize(
    ("typing", "answer"),
    [
        ("*57:01/*07:02", POSITIVE),
        ("HLA-B*07:02:01, HLA-B*57:01:01:01", POSITIVE),
        ("B*5701/B*0702", POSITIVE),
        ("B*570101/B*070201", POSITIVE),  # the notation before 2010
        ("*57:01", POSITIVE),
        ("*57:03/*07:02", NEGATIVE),
        ("*07:02", INDETERMINATE),  # the second allele is not known
        ("*57/*07:02", INDETERMINATE),
        ("*57:01N/*07:02", INDETERMINATE),
        ("A*57:01/B*07:02", INDETERMINATE),  # another locus
        ("not done", INDETERMINATE),
    ],
)
def test_carriers_of_an_hla_allele(typing: str, answer: str) -> None:
    result = carrier("HLA-B*57:01", {"HLA-B": genotype("HLA-B", typing)})
    assert result is not None
    assert result.phenotype == answer


def test_typing_and_the_test_of_one_allele_are_read_together() -> None:
    typed, target = genotype("HLA-B", "*57:01/*07:02"), "HLA-B*57:01"
    for said, answer in (("negative", CONFLICT), ("positive", POSITIVE), ("equivocal", POSITIVE)):
        result = carrier(target, {"HLA-B": typed, target: genotype(target, said)})
        assert result is not None
        assert result.phenotype == answer


def test_scores_of_a_recorded_number() -> None:
    assert of_score("DPYD", 1.5).results == ("Intermediate Metabolizer score 1.5", "Intermediate Metabolizer")
    assert of_score("TPMT", 1.5).phenotype == INDETERMINATE


# --- findings


def test_finding_says_what_who_and_why() -> None:
    (finding,) = found("clopidogrel bisulfate 75 MG Oral Tablet", "CYP2C19=*2/*2")
    assert finding.text == "CYP2C19 poor metabolizer: CPIC advises against clopidogrel (strong recommendation)."
    assert "prasugrel or ticagrelor" in finding.remedy
    assert finding.facts == ("CYP2C19 *2/*2",)
    assert finding.rule == "pgx-clopidogrel-cyp2c19-poor-metabolizer"
    assert finding.citation == "CPIC guideline 2022, PMID 35034351"


def test_activity_score_decides_within_a_phenotype() -> None:
    assert severities("piroxicam", "CYP2C9=*1/*2") == {"info"}
    assert severities("piroxicam", "CYP2C9=*1/*3") == {"caution"}
    assert severities("piroxicam", "CYP2C9=IM") == {"caution"}  # score not told: the safer of the two


def test_two_genes_are_judged_together() -> None:
    (finding,) = [each for each in found("amitriptyline", "CYP2D6=*4/*4 ; CYP2C19=*2/*2") if each.severity != "info"]
    assert "Avoid amitriptyline use" in finding.remedy
    assert "optional" in finding.text
    one = [each for each in found("amitriptyline", "CYP2D6=*4/*4") if each.severity == "caution"]
    assert "strong" in one[0].text


def test_unclear_result_counts_as_not_tested_never_as_normal() -> None:
    for result in ("*1/*999", "*1"):
        (finding,) = found("clopidogrel", f"CYP2C19={result}")
        assert finding.rule == "pgx-clopidogrel-cyp2c19-missing"
    assert severities("capecitabine", "DPYD=Reference/c.1A>C") == {"ask"}
    assert "ask" in severities("azathioprine", "TPMT=*1/*1 ; NUDT15=*1/*4x")


def test_missing_test_is_asked_for_only_where_it_must_come_first() -> None:
    asked = {drug for drug in read_guidelines().rules_by_drug if "ask" in severities(drug)}
    assert asked == {
        "abacavir", "azathioprine", "capecitabine", "carbamazepine", "fluorouracil", "ivacaftor", "mercaptopurine",
        "pegloticase", "primaquine", "rasburicase", "tafenoquine", "thioguanine",
    }  # fmt: skip
    assert severities("clopidogrel") == {"info"}


def test_codes_and_other_names_of_drugs() -> None:
    assert [each.drug for each in pharmacogenomic_findings("o", ["RXNORM//32968"], {})] == ["clopidogrel"]
    assert {each.drug for each in found("Suxamethonium chloride")} == {"succinylcholine"}
    assert found("fosphenytoin")[0].drug == "fosphenytoin"  # and not phenytoin
    assert found("isavuconazole") == []


def test_every_row_is_reachable_and_cited() -> None:
    """Each recommendation names a phenotype that its gene can have, so that none is dead by a misspelling."""
    phenotypes = {(row["gene"], row["phenotype"]) for name in ("phenotypes", "scores") for row in table(name)}
    phenotypes |= {(row["gene"], INDETERMINATE) for row in table("alleles")}
    for rule in read_guidelines().recommendations:
        assert rule.citation.rpartition(" ")[2].isdigit()
        for gene, result in zip(rule.genes, rule.results, strict=True):
            plain = result.split(" score ")[0]
            assert (
                (gene, plain) in phenotypes or plain == "not tested" or ("*" in gene and plain in (POSITIVE, NEGATIVE))
            ), rule


def test_no_clear_result_goes_without_a_word() -> None:
    """Of every drug, all phenotypes its genes can have, alone and in pairs, meet a recommendation."""
    has: dict[str, set[str]] = {}
    for row in (*table("phenotypes"), *table("scores")):
        has.setdefault(row["gene"], set()).add(row["phenotype"])
    silent = []
    for drug, joined in read_guidelines().rules_by_drug.items():
        for genes, _ in joined.items():
            choices = [has.get(gene, {POSITIVE, NEGATIVE}) - {INDETERMINATE} | {None} for gene in genes]
            for results in product(*choices):
                told = {gene: Genotype(gene, name, name) for gene, name in zip(genes, results, strict=True) if name}
                rules = [each.rule for each in pharmacogenomic_findings("o", [drug], told)]
                if told and all(rule.endswith("missing") for rule in rules):
                    silent.append((drug, results))
    assert silent == [("doxepin", ("Normal Metabolizer", None))]  # pypgx lacks this row of CPIC's, which is `as usual`


def test_every_drug_and_gene_of_a_recommendation_is_asked_for() -> None:
    guidelines = read_guidelines()
    pairs = {(pair.drug, pair.gene) for pair in guidelines.pairs}
    assert {(rule.drug, gene) for rule in guidelines.recommendations for gene in rule.genes} == pairs


# --- a hospital's own tables


def test_a_folder_replaces_the_drugs_it_names(tmp_path: Path) -> None:
    header = (TABLES / "pgx_published.csv").read_text(encoding="utf-8").splitlines()[0]
    mine = "codeine,CYP2D6,Poor Metabolizer,,,caution,Strong,Ask the pharmacist.,33387367,2021,our hospital,no"
    (tmp_path / "pgx_published.csv").write_text(f"{header}\n{mine}\n", encoding="utf-8")
    results = known("CYP2D6=*4/*4")
    codeine, tramadol = (
        pharmacogenomic_findings("o", [drug], results, folders=(None, tmp_path)) for drug in ("codeine", "tramadol")
    )
    assert [(each.severity, each.remedy) for each in codeine] == [("caution", "Ask the pharmacist.")]
    assert [each.severity for each in tramadol] == ["block"]


@pytest.mark.parametrize(("cell", "words"), [("halt", "severity must be"), (None, "missing column")])
def test_a_bad_table_is_refused(tmp_path: Path, cell: str | None, words: str) -> None:
    header = (TABLES / "pgx_published.csv").read_text(encoding="utf-8").splitlines()[0]
    line = f"codeine,CYP2D6,Poor Metabolizer,,,{cell},Strong,No.,1,2021,us,no"
    (tmp_path / "pgx_published.csv").write_text(f"{header}\n{line}\n" if cell else "drugs\ncodeine\n", encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_guidelines((tmp_path,))


# --- genotypes in the record


def events(*results: tuple[str, str | None, float | None], subject: int = 1) -> pl.DataFrame:
    return conform(
        pl.DataFrame(
            [
                {"subject_id": subject, "time": NOON, "code": code, "text_value": text, "numeric_value": number}
                for code, text, number in results
            ],
            schema_overrides={"text_value": pl.String, "numeric_value": pl.Float64},
        )
    )


def test_genotypes_are_read_from_events() -> None:
    genotypes = genotypes_of(
        events(
            (genotype_code("CYP2C19"), "*2/*2", None),
            (genotype_code("DPYD", "ACTIVITY_SCORE"), None, 1.5),
            (genotype_code("HLA-B"), "*57:01/*15:02", None),
            (genotype_code("HLA-B*58:01", "PHENOTYPE"), "Negative", None),
            ("LOINC//84413-4", "CYP2C9 *2/*5", None),
            ("LOINC//79715-9", "Poor metabolizer", None),
            ("LOINC//57979-7", "Detected", None),
            ("LOINC//2160-0", None, 1.1),
        )
    )
    assert {gene: each.phenotype for gene, each in genotypes.items()} == {
        "CYP2C19": "Poor Metabolizer",
        "DPYD": "Intermediate Metabolizer",
        "HLA-B": INDETERMINATE,  # asked allele by allele
        "HLA-B*58:01": NEGATIVE,
        "CYP2C9": "Intermediate Metabolizer",
        "CYP2D6": "Poor Metabolizer",
        "HLA-B*15:02": POSITIVE,
    }
    drugs = ["abacavir", "allopurinol", "oxcarbazepine"]
    blocked = [each.drug for each in pharmacogenomic_findings("o", drugs, genotypes) if each.severity == "block"]
    assert blocked == ["abacavir", "oxcarbazepine"]


def test_the_most_telling_of_agreeing_results_counts() -> None:
    code = genotype_code("CYP2C9")
    both = events(
        (genotype_code("CYP2C9", "PHENOTYPE"), "IM", None), (code, "*1/*3", None), (code, "*1/*unheard", None)
    )
    assert genotypes_of(both)["CYP2C9"].score == 1
    settled = events((genotype_code("G6PD"), "B/A-", None), (genotype_code("G6PD", "PHENOTYPE"), "Deficient", None))
    assert genotypes_of(settled)["G6PD"].phenotype == "G6PD Deficient"  # measured activity settles `variable`


def test_contradicting_results_settle_nothing_and_are_asked_about() -> None:
    code = genotype_code("CYP2D6")
    genotypes = genotypes_of(events((code, "*1/*1", None), (code, "*4/*4", None)))
    assert genotypes["CYP2D6"].phenotype == CONFLICT
    (finding,) = pharmacogenomic_findings("o", ["codeine"], genotypes)
    assert finding.severity == "ask"
    assert finding.facts == ("CYP2D6 *4/*4, *1/*1",)


def test_several_patients_are_refused() -> None:
    code = genotype_code("CYP2D6")
    with pytest.raises(InputError, match="one patient at a time"):
        genotypes_of(pl.concat([events((code, "*1/*1", None)), events((code, "*4/*4", None), subject=2)]))


def test_results_known_later_change_nothing() -> None:
    known_now = events((genotype_code("CYP2D6"), "*1/*1", None))
    later = pl.lit(datetime(2026, 2, 1, tzinfo=UTC)).cast(EVENTS["known_time"])
    result_later = events((genotype_code("CYP2D6"), "*4/*4", None)).with_columns(known_time=later)
    asked = known_now.select("subject_id", prediction_time="time")
    seen = history(pl.concat([known_now, result_later]).lazy(), asked).collect()
    assert genotypes_of(seen) == genotypes_of(known_now)
