"""From files to results: every allele named, every absent position indeterminate, wrong assemblies refused."""

from __future__ import annotations

import pytest

pytest.importorskip("pysam")

from careloop import InputError
from careloop.genome.files.regions import Region
from careloop.genome.files.sites import Site
from careloop.genome.pharmacogenes.assembly import require_reference
from careloop.genome.pharmacogenes.definitions import BUILDS, read_definitions
from careloop.genome.pharmacogenes.panel import pharmacogenes
from careloop.genome.pharmacogenes.phenotypes import INDETERMINATE

LONGEST = 83  # alleles of DPYD, and its positions


def bed(tmp_path, build: str, *, but: tuple[str, ...] = ()):
    """A BED file of the genes, less the sites named."""
    lines = []
    for gene in read_definitions().values():
        start = gene.regions[build].start
        for position in sorted(gene.positions, key=lambda each: each.starts[build]):
            if position.name in but:
                lines.append(f"{position.contig}\t{start}\t{position.starts[build]}")
                start = position.starts[build] + len(position.refs[build])
        lines.append(f"{gene.regions[build].contig}\t{start}\t{gene.regions[build].end}")
    path = tmp_path / "covered.bed"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("build", BUILDS)
def test_every_allele_of_every_gene_is_named_from_a_file(tables, write_sample, build: str) -> None:
    """Beside the reference allele and with itself, phased; the i-th alleles of all genes share a file."""
    for i in range(LONGEST):
        names = {gene: list(table.haplotypes)[i] for gene, table in tables.items() if i < len(table.haplotypes)}
        for homozygous in (False, True):
            seconds = {gene: name if homozygous else tables[gene].reference for gene, name in names.items()}
            strands = {g: (tables[g].haplotypes[names[g]][-1], tables[g].haplotypes[seconds[g]][0]) for g in names}
            result = pharmacogenes(write_sample(strands, build), genes=list(names))
            assert result.build == build
            for gene in result.genes:
                assert gene.status == "called", (gene.gene, gene.reasons)
                assert {gene.diplotypes[0].first, gene.diplotypes[0].second} == {names[gene.gene], seconds[gene.gene]}
                assert not gene.unlisted_variants


@pytest.mark.parametrize("build", BUILDS)
def test_without_any_one_position_no_allele_is_named(tables, write_sample, reference_strands, build: str) -> None:
    """The i-th positions of all genes are left out of one file of a *1/*1."""
    for i in range(max(len(table.sites) for table in tables.values())):
        left_out = {gene: table.sites[i]["site"] for gene, table in tables.items() if i < len(table.sites)}
        strands = {gene: reference_strands[gene] for gene in left_out}
        result = pharmacogenes(write_sample(strands, build, without=left_out.values()), genes=list(left_out))
        for gene in result.genes:
            assert [site.name for site in gene.unknown_sites] == [left_out[gene.gene]]
            assert gene.unknown_sites[0].call.state == "absent"
            assert (gene.status, gene.phenotype, gene.diplotype_text) == ("indeterminate", INDETERMINATE, "")
            assert not gene.settled
            assert not gene.recommendations
            reference = tables[gene.gene].reference
            assert any({pair.first, pair.second} == {reference} for pair in gene.diplotypes)


@pytest.mark.parametrize("build", BUILDS)
def test_a_position_left_out_of_other_samples_too(tables, write_sample, build: str) -> None:
    """Samples with an allele of each gene: the position that defines it, and others, left out in turn."""
    for gene, name in (("CYP2C19", "*17"), ("TPMT", "*3A"), ("CYP3A5", "*6"), ("UGT1A1", "*80+*28"), ("CYP2C9", "*25")):
        table = tables[gene]
        strands = {gene: (table.haplotypes[name][0], table.haplotypes[table.reference][0])}
        for site in table.sites:
            result = pharmacogenes(write_sample(strands, build, without=[site["site"]]), genes=[gene]).genes[0]
            assert (result.status, result.diplotype_text, result.phenotype) == ("indeterminate", "", INDETERMINATE)
            assert any({p.first, p.second} == {name, table.reference} for p in result.diplotypes)


@pytest.mark.parametrize("build", BUILDS)
def test_silence_is_reference_only_where_the_region_was_covered(tables, write_sample, tmp_path, build: str) -> None:
    """A file of differences only: without coverage nothing is known, with it every gene is."""
    strands = {g: (t.haplotypes[list(t.haplotypes)[-1]][0], t.haplotypes[t.reference][0]) for g, t in tables.items()}
    dropped = [
        site["site"]
        for gene, table in tables.items()
        for site, *bases in zip(table.sites, *strands[gene], strict=True)
        if set(bases) == {site[f"ref_{build}"]}
    ]
    path = write_sample(strands, build, without=dropped)
    silent = pharmacogenes(path)
    assert {gene.gene for gene in silent.genes if gene.status != "indeterminate"} <= {"VKORC1"}
    assert any("covered regions" in caveat for caveat in silent.caveats)
    covered = pharmacogenes(path, covered=bed(tmp_path, build))
    assert {gene.status for gene in covered.genes} == {"called"}
    in_part = pharmacogenes(path, covered=bed(tmp_path, build, but=("rs28399504",)))
    assert [site.name for site in in_part.gene("CYP2C19").unknown_sites] == ["rs28399504"]
    assert in_part.gene("TPMT").status == "called"


def test_blocks_of_covered_reference_count_over_the_minimum_only(write_lines) -> None:
    gene = read_definitions()["VKORC1"]
    start = gene.positions[0].starts["GRCh38"]
    block = "chr16\t{first}\t.\tC\t<NON_REF>\t.\t.\tEND={last}\tGT:DP:GQ\t0/0:{depth}:{quality}"
    status = {}
    for depth, quality in ((30, 60), (5, 60), (30, 10)):
        line = block.format(first=start - 20, last=start + 20, depth=depth, quality=quality)
        status[depth, quality] = pharmacogenes(write_lines([line], "GRCh38"), genes=["VKORC1"]).genes[0].diplotype_text
    assert status == {(30, 60): "Reference/Reference", (5, 60): "", (30, 10): ""}


@pytest.mark.parametrize(
    ("ref", "alt", "values", "state"),
    [
        ("G", "A", "PASS\t.\tGT\t./.", "no-call"),
        ("G", "A", "PASS\t.\tGT\t./1", "no-call"),
        ("G", "A", "PASS\t.\tGT:GQ\t0/1:3", "no-call"),
        ("G", "A", "LowQual\t.\tGT\t0/1", "no-call"),
        ("T", "A", "PASS\t.\tGT\t0/1", "mismatch"),
        ("G", "*", "PASS\t.\tGT\t0/1", "spanned"),
        ("G", "A", "PASS\t.\tGT\t1", "genotype"),  # one allele on a chromosome that comes twice
    ],
)
def test_what_is_not_sure_names_no_allele(
    write_sample, reference_strands, write_lines, ref, alt, values, state
) -> None:
    """rs4244285 (CYP2C19*2), all other positions reference."""
    path = write_sample({"CYP2C19": reference_strands["CYP2C19"]}, "GRCh38", without=["rs4244285"])
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    path = write_lines([*lines, f"chr10\t94781859\t.\t{ref}\t{alt}\t60\t{values}"], "GRCh38")
    result = pharmacogenes(path).gene("CYP2C19")
    assert [(site.name, site.call.state) for site in result.unknown_sites] == [("rs4244285", state)]
    assert (result.status, result.diplotype_text, result.phenotype) == ("indeterminate", "", INDETERMINATE)
    assert result.unknown_sites[0].reason


def test_a_half_called_genotype_rules_out_what_it_contradicts(write_sample, write_lines, tables) -> None:
    """`./1` at the only position of NUDT15*3 leaves *1/*3 and *3/*3, not *1/*1."""
    strands = (tables["NUDT15"].haplotypes["*1"][0],) * 2
    path = write_sample({"NUDT15": strands}, "GRCh37", without=["rs116855232"])
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    path = write_lines([*lines, "chr13\t48619855\t.\tC\tT\t60\tPASS\t.\tGT\t./1"], "GRCh37")
    result = pharmacogenes(path, genes=["NUDT15"]).genes[0]
    assert [str(pair) for pair in result.diplotypes] == ["*1/*3", "*3/*3"]
    assert result.possible_phenotypes == ("Intermediate Metabolizer", "Poor Metabolizer")


@pytest.mark.parametrize(("build", "said"), [("GRCh37", "GRCh38"), ("GRCh38", "GRCh37")])
def test_a_file_of_another_assembly_is_refused(tables, write_sample, tmp_path, build: str, said: str) -> None:
    names = {"CYP2C19": ("*2", "*17"), "CYP2C9": ("*2", "*3"), "SLCO1B1": ("*15", "*1")}
    strands = {g: tuple(tables[g].haplotypes[name][0] for name in pair) for g, pair in names.items()}
    with pytest.raises(InputError, match=f"says {said}, but"):
        pharmacogenes(write_sample(strands, build, header_build=said))
    with pytest.raises(InputError, match=f"says {said}, but"):  # with coverage every site would be reference
        pharmacogenes(write_sample(strands, build, header_build=said), genes=["VKORC1"], covered=bed(tmp_path, said))


def test_ref_bases_of_another_assembly_are_refused(write_lines) -> None:
    """An all-sites file without variants whose REF bases are not the assembly's."""
    wrong = {"A": "C", "C": "G", "G": "T", "T": "A"}
    lines = [
        f"chr{p.contig}\t{p.starts['GRCh38'] + 1}\t.\t{wrong[p.refs['GRCh38'][0]]}\t.\t60\tPASS\t.\tGT\t0/0"
        for p in read_definitions()["TPMT"].positions
    ]
    with pytest.raises(InputError, match="REF must be the bases of GRCh38; at 43 of 43"):
        pharmacogenes(write_lines(lines, "GRCh38"), genes=["TPMT"])


def test_the_assembly_is_told_by_the_variants_where_the_header_is_silent(tables, write_sample, write_lines) -> None:
    strands = {"SLCO1B1": tuple(tables["SLCO1B1"].haplotypes[name][0] for name in ("*15", "*1"))}
    for build in BUILDS:
        assert pharmacogenes(write_sample(strands, build, header_build=None)).build == build
    with pytest.raises(InputError, match="does not tell its assembly"):
        pharmacogenes(write_lines([], None))


def test_a_reference_with_other_bases_is_refused(tmp_path) -> None:
    class Bases:
        path = tmp_path / "reference.fa"

        def name_of(self, contig: str) -> str | None:
            return contig if contig == "10" else None

        def fetch(self, contig: str, start: int, end: int) -> str:
            return "A" * (end - start)

    with pytest.raises(InputError, match=r"10:101 must be C \(rs1\), got A"):
        require_reference([Site("7", 90, "C"), Site("10", 90, "A"), Site("10", 100, "C", ("T",), "rs1")], Bases())


def test_genes_that_a_variant_file_cannot_settle_are_refused_with_the_test_needed(
    write_sample, reference_strands
) -> None:
    path = write_sample({"VKORC1": reference_strands["VKORC1"]}, "GRCh38")
    result = pharmacogenes(path, genes=["vkorc1", "CYP2D6", "CYP2B6", "HLA-B", "HLA-DRB1", "G6PD", "CACNA1S"])
    assert [gene.gene for gene in result.genes] == ["VKORC1"]
    refused = {each.gene: each for each in result.refused}
    assert set(refused) == {"CYP2D6", "CYP2B6", "HLA-B", "HLA-DRB1", "G6PD", "CACNA1S"}
    assert "copy number" in refused["CYP2D6"].test
    assert "typing" in refused["HLA-B"].test
    assert {each.gene for each in pharmacogenes(path).refused} == {"CYP2D6", "CYP2B6", "HLA-A", "HLA-B", "G6PD"}


@pytest.mark.parametrize(
    ("line", "in_exon"),
    [
        ("chr10\t94781850\t.\tA\tT\t60\tPASS\t.\tGT\t0|1", True),
        ("chr10\t94800000\t.\tA\t<DEL>\t60\tPASS\tEND=94803000\tGT\t0|1", False),
        ("chr10\t94700000\t.\tA\t<DUP>\t60\tPASS\tEND=94900000\tGT\t0|1", True),  # the whole gene
        ("chr10\t94781859\t.\tG\tC\t60\tPASS\t.\tGT\t0|0", None),
    ],
)
def test_a_variant_that_no_allele_has_is_reported_and_changes_no_call(
    write_sample, write_lines, reference_strands, line: str, in_exon: bool | None
) -> None:
    path = write_sample({"CYP2C19": reference_strands["CYP2C19"]}, "GRCh38")
    lines = [each for each in path.read_text().splitlines() if not each.startswith("#")]
    result = pharmacogenes(write_lines([*lines, line], "GRCh38")).gene("CYP2C19")
    assert result.diplotype_text == "*1/*1"
    assert [each.in_exon for each in result.unlisted_variants] == ([] if in_exon is None else [in_exon])
    assert any("belong to no allele" in caveat for caveat in result.caveats) == (in_exon is not None)


def test_a_third_base_at_a_defining_position_fits_no_allele(write_sample, write_lines, reference_strands) -> None:
    path = write_sample({"CYP2C19": reference_strands["CYP2C19"]}, "GRCh38", without=["rs4244285"])
    lines = [each for each in path.read_text().splitlines() if not each.startswith("#")]
    line = "chr10\t94781859\t.\tG\tT\t60\tPASS\t.\tGT\t0|1"
    result = pharmacogenes(write_lines([*lines, line], "GRCh38")).gene("CYP2C19")
    assert (result.status, result.diplotypes, result.phenotype) == ("unlisted", (), INDETERMINATE)
    assert "rs4244285 G/T" in result.reasons[0]
    assert len(result.unlisted_variants) == 1


def test_a_repeat_written_another_way_is_not_taken_for_reference(write_lines, tmp_path) -> None:
    """UGT1A1*28, the TA inserted at the repeat's right end, in a covered file of differences only."""
    repeat = "chr2\t233760247\t.\tA\tATA\t60\tPASS\t.\tGT\t0/1"
    covered = bed(tmp_path, "GRCh38")
    result = pharmacogenes(write_lines([repeat], "GRCh38"), genes=["UGT1A1"], covered=covered).genes[0]
    assert [site.name for site in result.unknown_sites] == ["rs34983651"]
    assert "written differently" in result.unknown_sites[0].reason
    assert result.diplotype_text == ""
    aligned = "chr2\t233760233\t.\tC\tCAT\t60\tPASS\t.\tGT\t0/1"
    result = pharmacogenes(write_lines([aligned], "GRCh38"), genes=["UGT1A1"], covered=covered).genes[0]
    assert result.diplotype_text == "*1/*28"


@pytest.mark.parametrize("line", ["CAT\tCATAT", "CATAT\tCATATAT", "CAT\tC,CATAT"])
def test_the_repeat_with_more_bases_written_is_the_same(write_lines, tmp_path, line: str) -> None:
    index = 2 if "," in line else 1
    record = f"chr2\t233760233\t.\t{line}\t60\tPASS\t.\tGT\t0/{index}"
    result = pharmacogenes(write_lines([record], "GRCh38"), genes=["UGT1A1"], covered=bed(tmp_path, "GRCh38")).genes[0]
    assert result.diplotype_text == "*1/*28"


def test_progress_and_plain_words(write_sample, reference_strands) -> None:
    told = []
    result = pharmacogenes(write_sample(reference_strands, "GRCh38"), progress=lambda *each: told.append(each))
    assert told[-1] == ("pharmacogenes", 9, 9)
    assert any(gene.gene == "CYP2C19" and any("base of *38" in text for text in gene.caveats) for gene in result.genes)
    assert any("TA repeat" in text for text in result.gene("UGT1A1").caveats)
    assert result.sample == "S1"


def test_a_missing_sample_is_named(write_sample, reference_strands) -> None:
    with pytest.raises(InputError, match="no sample 'S2'"):
        pharmacogenes(write_sample(reference_strands, "GRCh38"), sample="S2")


def test_regions_and_their_names() -> None:
    assert read_definitions()["VKORC1"].regions["GRCh38"] == Region("16", 31087852, 31097797)
