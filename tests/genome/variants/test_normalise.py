"""Normalised variants against bcftools norm and vt's own examples, and what must never change: the sequences."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.files.variant_file import open_variants
from careloop.genome.variant import Record, SampleCall
from careloop.genome.variants.alleles import left_align, primitives, trim
from careloop.genome.variants.compare import compare
from careloop.genome.variants.normalise import NormaliseOptions, NormaliseSummary, normalise, normalise_file
from careloop.genome.variants.split import Numbers, split_alleles

EXAMPLES = Path("/usr/share/doc/vt/examples")
needs_vt = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="vt's examples are not installed (Debian: vt-examples)")


def reference_of(bases: str) -> SimpleNamespace:
    return SimpleNamespace(
        contigs={"20": len(bases)},
        name_of=lambda name: name if name == "20" else None,
        fetch=lambda _, start, end: bases[max(0, start) : end],
    )


def applied(bases: str, variants: list[tuple[int, str, str]]) -> str:
    """The sequence with variants put on, which may touch but not overlap once trimmed."""
    out, at = "", 0
    for start, (ref, alt) in sorted(without_anchor(*variant) for variant in variants):
        assert at <= start
        assert bases[start : start + len(ref)] == ref
        out, at = out + bases[at:start] + alt, start + len(ref)
    return out + bases[at:]


def without_anchor(start: int, ref: str, alt: str) -> tuple[int, tuple[str, ...]]:
    if start == 0 and ref and alt and ref[-1] == alt[-1]:  # at the contig's first base the anchor is the last base
        return 0, (ref[:-1], alt[:-1])
    return trim(start, (ref, alt))


def spelled(records: list[Record]) -> list[tuple[int, str, tuple[str, ...]]]:
    return [(record.start, record.ref, record.alts) for record in records]


# --- independent sources ------------------------------------------------------------------------------------------


def records_of(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="session")
def chromosome_20(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chromosome")
    for name in ("20.fa.gz", "20.fa.gz.fai"):
        shutil.copy(EXAMPLES / "ref" / name, folder)
    (folder / "20.fa.gz.gzi").write_bytes(gzip.decompress((EXAMPLES / "ref" / "20.fa.gz.gzi.gz").read_bytes()))
    return folder / "20.fa.gz"


@needs_vt
def test_vt_normalize_example(chromosome_20: Path, tmp_path: Path) -> None:
    text = gzip.decompress((EXAMPLES / "normalize/01_IN.vcf.gz").read_bytes()).decode()
    source = tmp_path / "in.vcf"
    source.write_text(text.replace("VCFv4.0", "VCFv4.1"))
    summary = normalise_file(source, chromosome_20, tmp_path / "out.vcf")
    expected = records_of(gzip.decompress((EXAMPLES / "normalize/01_OUT.vcf.gz").read_bytes()).decode())
    found = records_of((tmp_path / "out.vcf").read_text())
    assert sorted(row[:2] + row[3:5] for row in found) == sorted(row[:2] + row[3:5] for row in expected)
    assert [int(row[1]) for row in found] == [int(row[1]) for row in expected]
    assert summary.counts["trimmed or shifted"] == 80  # vt's own count, in 01_OUT.stderr


@needs_vt
@pytest.mark.parametrize(
    ("name", "level"),
    [("01_{}_even_length", "snvs"), ("02_{}_uneven_length", "primitives"), ("03_{}_phased_even_length", "snvs")],
)
def test_vt_decompose_blocksub_examples(name: str, level: str, tmp_path: Path) -> None:
    def read(which: str) -> list[Record]:
        path = tmp_path / f"{which}.vcf"
        packed = EXAMPLES / "decompose_blocksub" / f"{name.format(which)}.vcf.gz"
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        return list(open_variants(path).records())

    source, expected = read("IN"), read("OUT")
    bases = "N" * source[0].start + source[0].ref + "N" * 10  # the examples' contig is 1, of which only this is needed
    reference = reference_of(bases)
    reference.contigs, reference.name_of = {"1": len(bases)}, lambda name: name
    found = list(normalise(source, reference, options=NormaliseOptions(level=level)))
    assert spelled(found) == spelled(expected)
    assert [r.samples["normal"].alleles for r in found] == [r.samples["normal"].alleles for r in expected]


@needs_vt
def test_vt_decompose_example() -> None:
    source = list(open_variants(EXAMPLES / "decompose/01_IN_multi.vcf").records())
    expected = list(open_variants(EXAMPLES / "decompose/01_OUT_multi.vcf").records())
    found = list(split_alleles(source[0], Numbers(), other="missing"))
    assert spelled(found) == spelled(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.samples["36722"].alleles == other.samples["36722"].alleles
        assert one.samples["36722"].fields["PL"] == other.samples["36722"].fields["PL"]
    assert [one.samples["36722"].fields["AD"] for one in found] == [(0, 3), (0, 0)]  # vt drops AD


HEADER = """##fileformat=VCFv4.2
##contig=<ID=20,length={length}>
##INFO=<ID=AC,Number=A,Type=Integer,Description="alleles">
##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">
##FORMAT=<ID=AD,Number=R,Type=Integer,Description="depths">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="depth">
##FORMAT=<ID=PL,Number=G,Type=Integer,Description="likelihoods">
#CHROM	POS	ID	REF	ALT	QUAL	FILTER	INFO	FORMAT	A	B
"""


def random_rows(rng: random.Random, bases: str, count: int) -> list[str]:
    """Records of one to three alternative alleles, with genotypes and likelihoods."""
    rows = []
    for start in sorted(rng.sample(range(20, len(bases) - 20), count)):
        ref = bases[start : start + rng.randint(1, 5)]
        alts: list[str] = []
        while len(alts) < rng.randint(1, 3):
            alt = ref[0] + "".join(rng.choices("ACGT", k=rng.randint(0, 4)))
            alt = rng.choice([alt, ref + ref[-1] * rng.randint(1, 3), ref[0]])
            if alt not in [ref, *alts]:
                alts.append(alt)
            elif len(ref) == 1 and alts:
                break
        samples = []
        for _ in range(2):
            alleles = [rng.choice([*map(str, range(len(alts) + 1)), "."]) for _ in range(2)]
            depths = [rng.randint(0, 30) for _ in range(len(alts) + 1)]
            likelihoods = [rng.randint(0, 99) for _ in range((len(alts) + 1) * (len(alts) + 2) // 2)]
            values = [rng.choice("/|").join(alleles), ",".join(map(str, depths)), str(sum(depths))]
            samples.append(":".join([*values, ",".join(map(str, likelihoods))]))
        counts = ",".join(str(rng.randint(0, 3)) for _ in alts)
        fields = ["20", str(start + 1), ".", ref, ",".join(alts), "30", "PASS", f"AC={counts}", "GT:AD:DP:PL"]
        rows.append("\t".join(fields + samples))
    return rows


@pytest.mark.parametrize("seed", [3, 4])
def test_agrees_with_bcftools_norm(seed: int, bases: Callable[..., str], write_fasta, tmp_path: Path) -> None:
    from pysam import bcftools

    rng = random.Random(seed)
    sequence = bases(rng, 3_000, repeats=0.6)
    reference = write_fasta({"20": sequence})
    source = tmp_path / "in.vcf"
    source.write_text(HEADER.format(length=len(sequence)) + "\n".join(random_rows(rng, sequence, 400)) + "\n")
    normalise_file(source, reference, tmp_path / "out.vcf")
    theirs = bcftools.norm("-m-any", "-f", str(reference), str(source))
    # bcftools drops the FORMAT's phase nowhere, so whole lines are equal but for the order of equal positions.
    assert sorted(records_of((tmp_path / "out.vcf").read_text())) == sorted(records_of(theirs))


# --- properties ---------------------------------------------------------------------------------------------------

sequences = st.text("ACGT", min_size=12, max_size=40) | st.text("AC", min_size=12, max_size=40)


@st.composite
def variants(draw) -> tuple[str, Record]:
    bases = draw(sequences)
    start = draw(st.integers(0, len(bases) - 4))
    ref = bases[start : start + draw(st.integers(1, 6))]
    alt = draw(st.text("ACGT", min_size=1, max_size=7).filter(lambda text: text != ref))
    call = SampleCall(draw(st.sampled_from([(0, 1), (1, 0), (1, 1), (0, 0)])), draw(st.booleans()))
    return bases, Record("20", start, start + len(ref), ref, (alt,), samples={"S1": call})


@given(variants(), st.sampled_from(["split", "snvs", "primitives"]))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_normalising_keeps_the_sequence_and_is_idempotent(drawn: tuple[str, Record], level: str) -> None:
    bases, record = drawn
    reference, options = reference_of(bases), NormaliseOptions(level=level)
    once = list(normalise([record], reference, options=options))
    expected = bases[: record.start] + record.alts[0] + bases[record.end :]
    assert applied(bases, [(one.start, one.ref, one.alts[0]) for one in once]) == expected
    assert [one.start for one in once] == sorted(one.start for one in once)
    twice = list(normalise(once, reference, options=options))
    assert spelled(twice) == spelled(once)
    if level == "primitives":
        assert all(len(one.ref) == 1 or len(one.alts[0]) == 1 for one in once)
    if len(once) > 1 and len(set(record.samples["S1"].alleles)) == 2:
        assert all(one.samples["S1"].phased for one in once)


@given(variants())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_spelling_of_an_indel_becomes_the_leftmost(drawn: tuple[str, Record]) -> None:
    """Checked by brute force: all places where the same bases inserted or deleted give the same sequence."""
    bases, record = drawn
    start, (ref, alt) = trim(record.start, (record.ref, record.alts[0]))
    if ref and alt:
        return
    changed = applied(bases, [(start, ref, alt)])
    if ref:
        places = [at for at in range(len(bases)) if bases[:at] + bases[at + len(ref) :] == changed]
    else:
        size = len(alt)
        places = [at for at in range(len(bases) + 1) if changed[:at] + changed[at + size :] == bases]
    found, alleles = left_align(lambda a, b: bases[a:b], start, (ref, alt))
    assert found == max(0, min(places) - 1)
    assert min(map(len, alleles)) == 1


def test_primitives_are_the_fewest_changes() -> None:
    assert primitives("ACG", "TCA") == [(0, "A", "T"), (2, "G", "A")]
    assert primitives("ACCTTTC", "GACCTTTT") == [(0, "", "G"), (6, "C", "T")]
    assert primitives("CACACAG", "CACAT") == [(0, "CA", ""), (6, "G", "T")]  # the gap goes leftmost


# --- what is refused, counted or left ------------------------------------------------------------------------------


def test_mismatching_reference_is_rejected_and_counted() -> None:
    summary = NormaliseSummary()
    records = [Record("20", 0, 1, "C", ("G",)), Record("20", 2, 3, "G", ("T",)), Record("20", 7, 9, "TA", ("T",))]
    found = list(normalise(records, reference_of("ACGTACGT"), summary=summary))
    assert spelled(found) == [(2, "G", ("T",))]
    assert summary.counts["rejected"] == 2
    assert [one.start for one in summary.rejects] == [0, 7]
    assert summary.counts["read"] == 3


def test_contig_unknown_to_the_reference_is_rejected() -> None:
    summary = NormaliseSummary()
    assert not list(normalise([Record("GL1", 0, 1, "C", ("G",))], reference_of("ACGT"), summary=summary))
    assert summary.counts["rejected: contig is not in the reference"] == 1


@pytest.mark.parametrize("alts", [("<DEL>",), ("*",), ("<NON_REF>",), ("A[20:5[",), ()])
def test_alleles_that_are_no_bases_pass_unchanged(alts: tuple[str, ...]) -> None:
    record = Record("20", 4, 5, "A", alts)
    assert list(normalise([record], reference_of("ACGTACGT"))) == [record]


def test_multi_allelic_kept_whole_is_shifted_as_one() -> None:
    record = Record("20", 5, 7, "AA", ("A", "AAA"))
    found = list(normalise([record], reference_of("CCGAAAAAT"), options=NormaliseOptions(level="whole")))
    assert spelled(found) == [(2, "GA", ("G", "GAA"))]


def test_at_the_first_base_the_following_base_is_the_anchor() -> None:
    found = list(normalise([Record("20", 1, 3, "AA", ("A",))], reference_of("AAAC")))
    assert spelled(found) == [(0, "AA", ("A",))]


def test_shifted_records_come_out_sorted() -> None:
    bases = "G" + "A" * 50 + "C"
    records = [Record("20", 20, 21, "A", ("C",)), Record("20", 49, 51, "AA", ("A",))]
    found = list(normalise(records, reference_of(bases)))
    assert spelled(found) == [(0, "GA", ("G",)), (20, "A", ("C",))]


def test_unsorted_records_are_refused_with_their_place() -> None:
    records = [Record("20", 5, 6, "C", ("G",)), Record("20", 2, 3, "G", ("T",))]
    with pytest.raises(InputError, match=r"20:3 comes after 20:6"):
        list(normalise(records, reference_of("ACGTACGT")))


def test_unknown_level_is_refused() -> None:
    with pytest.raises(InputError, match="level of normalisation"):
        NormaliseOptions(level="everything")  # type: ignore[arg-type]


def test_names_of_contigs_stay_those_of_the_file(write_fasta, write_vcf, tmp_path: Path) -> None:
    reference = write_fasta({"20": "CCGAAAAATCGATCG"})
    source = write_vcf("in.vcf", [(6, "AA", "A", "0/1")], contigs={"chr20": 15})
    normalise_file(source, reference, tmp_path / "out.vcf.gz", options=NormaliseOptions(level="primitives"))
    written = open_variants(tmp_path / "out.vcf.gz")
    assert [(r.contig, r.start, r.ref, r.alts) for r in written.records()] == [("chr20", 2, "GA", ("G",))]


@pytest.mark.parametrize("level", ["split", "primitives"])
def test_a_normalised_file_compares_as_the_same(level: str, bases, write_fasta, write_vcf, tmp_path: Path) -> None:
    """Genotypes and phase included: het MNPs come apart in phase, multi-allelics into two records."""
    rng = random.Random(11)
    sequence = bases(rng, 9_000, repeats=0.2)
    rows = []
    for start in range(100, 8_900, 80):
        ref = sequence[start : start + rng.randint(1, 4)]
        alts = {"".join(rng.choices("ACGT", k=rng.randint(1, 4))) for _ in range(2)} - {ref}
        genotype = rng.choice(["1/2", "0/2", "1|2"] if len(alts) == 2 else ["0/1", "1/1", "0|1"])
        rows.append((start, ref, ",".join(sorted(alts)), genotype))
    reference = write_fasta({"20": sequence})
    source = write_vcf("in.vcf", rows, contigs={"20": len(sequence)})
    out = tmp_path / "out.vcf.gz"
    summary = normalise_file(source, reference, out, options=NormaliseOptions(level=level))
    assert summary.counts["split"] > 20
    assert (summary.counts["decomposed"] > 20) == (level == "primitives")
    counts = compare(source, out, reference).counts["all"]
    assert (counts.truth_matched, counts.missed, counts.false) == (len(rows), 0, 0)


def test_haploid_likelihoods_are_split() -> None:
    call = SampleCall((2,), fields={"PL": (9, 5, 0), "AD": (1, 2, 3)})
    record = Record("X", 4, 5, "A", ("C", "G"), samples={"S1": call})
    found = list(split_alleles(record, Numbers()))
    assert [one.samples["S1"].fields["PL"] for one in found] == [(9, 5), (9, 0)]
    assert [one.samples["S1"].alleles for one in found] == [(0,), (1,)]
