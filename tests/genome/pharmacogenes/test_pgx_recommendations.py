"""Phenotypes and recommendations that follow from files, against CPIC's tables read row by row."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import pytest

pytest.importorskip("pysam")

from careloop.genome.pharmacogenes.definitions import read_definitions
from careloop.genome.pharmacogenes.panel import pharmacogenes
from careloop.genome.pharmacogenes.phenotypes import INDETERMINATE, genotype

HAPB3 = "c.1129-5923C>G, c.1236G>A (HapB3)"
# Genes that CPIC joins in one recommendation; both are in the panel.
JOINED = (("NUDT15", "TPMT"), ("CYP2C9", "SLCO1B1"))


@pytest.fixture(scope="session")
def rules(rows):
    """(drug, {gene: result}, text, strength, severity, PMID) of every recommendation, from both tables."""
    found = []
    for row in [*rows("recommendations"), *rows("published")]:
        seconds = row["other_results"].split("|") if row["other_gene"] else [None]
        for drug, first, second in product(row["drugs"].split("|"), row["results"].split("|"), seconds):
            results = {row["gene"]: first} | ({row["other_gene"]: second} if second else {})
            found.append((drug, results, row["recommendation"], row["strength"], row["severity"], row["pmid"]))
    return found


@pytest.fixture(scope="session")
def examples(tables):
    """{gene: {(phenotype, score): two alleles that give it}}, for every phenotype that some pair of alleles gives."""
    found = {gene: {} for gene in tables}
    for gene, table in tables.items():
        for pair in combinations_with_replacement(table.haplotypes, 2):
            result = genotype(gene, "/".join(pair))
            found[gene].setdefault((result.phenotype, result.score), pair)
    return found


def written(tables, write_sample, pairs):
    strands = {gene: tuple(tables[gene].haplotypes[name][0] for name in pair) for gene, pair in pairs.items()}
    return pharmacogenes(write_sample(strands, "GRCh38"), genes=list(pairs))


def expected(rules, gene, known):
    """What CPIC's tables say where `known` {gene: (phenotype, score)} is known and every other gene is not tested.

    Of two rows for one drug the one that names the activity score counts; an indeterminate gene counts as untested
    where the drug has no row for it.
    """
    chosen = {}
    for drug, results, *told in rules:
        if gene not in results:
            continue
        ranks = [rank(known.get(each, ("not tested", None)), result) for each, result in results.items()]
        if None not in ranks:
            chosen.setdefault((drug, tuple(results)), []).append((ranks, tuple(told)))
    return {(drug, *min(found)[1]) for (drug, _), found in chosen.items()}


def rank(known, result):
    phenotype, score = known
    names = [phenotype] if score is None else [f"{phenotype} score {score:g}", phenotype]
    names += ["not tested"] if phenotype == INDETERMINATE else []
    return names.index(result) if result in names else None


def recommended(result):
    return {(r.drug, r.text, r.strength, r.severity, r.citation.rsplit(" ", 1)[1]) for r in result.recommendations}


def test_recommendations_are_cpics_for_every_phenotype_of_every_gene(tables, write_sample, rules, examples) -> None:
    seen = 0
    for gene, found in examples.items():
        for (phenotype, score), pair in found.items():
            result = written(tables, write_sample, {gene: pair}).genes[0]
            assert (result.phenotype, result.activity_score) == (phenotype, score)
            if phenotype == INDETERMINATE:
                assert not result.recommendations
                continue
            assert recommended(result) == expected(rules, gene, {gene: (phenotype, score)}), (gene, phenotype)
            seen += len(result.recommendations)
    assert seen > 200


@pytest.mark.parametrize("pair", JOINED)
def test_recommendations_for_two_genes_together(tables, write_sample, rules, examples, pair) -> None:
    for known in product(*(examples[gene] for gene in pair)):
        alleles = {gene: examples[gene][key] for gene, key in zip(pair, known, strict=True)}
        results = {result.gene: result for result in written(tables, write_sample, alleles).genes}
        for gene, (phenotype, _) in zip(pair, known, strict=True):
            if phenotype != INDETERMINATE:
                told = expected(rules, gene, dict(zip(pair, known, strict=True)))
                assert recommended(results[gene]) == told
                assert told


def test_every_drug_of_the_panels_genes_is_reached(tables, write_sample, rules, examples) -> None:
    """Each drug in the tables that one gene of the panel decides is recommended on for some phenotype."""
    reached = {
        rule.drug
        for gene, found in examples.items()
        for pair in found.values()
        for rule in written(tables, write_sample, {gene: pair}).genes[0].recommendations
    }
    assert {drug for drug, results, *_ in rules if len(results) == 1 and set(results) <= set(tables)} <= reached


@pytest.mark.parametrize(
    ("strands", "joint", "phenotype", "score"),
    [
        # Phased, the least active variant of each strand counts.
        ((["c.1905+1G>A (*2A)", "c.2846A>T"], []), "|", "Intermediate Metabolizer", 1.0),
        ((["c.1905+1G>A (*2A)"], ["c.2846A>T"]), "|", "Poor Metabolizer", 0.5),
        # Not phased, the two least active count as on two strands.
        ((["c.1905+1G>A (*2A)", "c.2846A>T"], []), "/", "Poor Metabolizer", 0.5),
        (([HAPB3, "c.85T>C (*9A)"], []), "/", "Intermediate Metabolizer", 1.5),
        (([HAPB3, "c.2846A>T", "c.1905+1G>A (*2A)"], []), "/", "Poor Metabolizer", 0.5),
        ((["c.2846A>T", "c.85T>C (*9A)"], ["c.2846A>T"]), "/", "Intermediate Metabolizer", 1.0),
    ],
)
def test_dpyd_by_cpics_activity_of_each_variant(tables, write_sample, strands, joint, phenotype, score) -> None:
    table = tables["DPYD"]
    reference = table.haplotypes["Reference"][0]
    bases = []
    for names in strands:
        carried = [table.haplotypes[name][0] for name in names]
        bases.append(tuple(next((h[i] for h in carried if h[i] != r), r) for i, r in enumerate(reference)))
    for build in ("GRCh37", "GRCh38"):
        path = write_sample({"DPYD": tuple(bases)}, build, joint=joint)
        result = pharmacogenes(path, genes=["DPYD"]).genes[0]
        assert (result.phenotype, result.activity_score) == (phenotype, score)
        assert result.settled
    read_back = genotype("DPYD", str(result.diplotypes[0]))
    assert read_back.score is not None


def test_an_ambiguous_diplotype_has_a_phenotype_only_where_all_agree(tables, write_sample) -> None:
    def unphased(gene, one, other):
        strands = tuple(tables[gene].haplotypes[name][0] for name in (one, other))
        return pharmacogenes(write_sample({gene: strands}, "GRCh38", joint="/"), genes=[gene]).genes[0]

    agreeing = unphased("SLCO1B1", "*1", "*15")
    assert (agreeing.status, agreeing.diplotype_text) == ("ambiguous", "*1/*15 or *5/*37")
    assert (agreeing.phenotype, agreeing.settled) == ("Decreased Function", True)
    differing = unphased("TPMT", "*1", "*3A")
    assert differing.diplotype_text == "*1/*3A or *3B/*3C"
    assert differing.possible_phenotypes == ("Intermediate Metabolizer", "Poor Metabolizer")
    assert (differing.phenotype, differing.settled, differing.recommendations) == (INDETERMINATE, False, ())
    assert genotype("SLCO1B1", agreeing.diplotype_text).phenotype == "Decreased Function"  # as the record is read


def test_table_versions_are_told(tables, write_sample, reference_strands) -> None:
    result = pharmacogenes(write_sample(reference_strands, "GRCh37"))
    assert {gene.table_version for gene in result.genes} == {read_definitions()["TPMT"].version}
    assert set(result.versions) == {"phenotypes", "recommendations", "allele definitions"}
