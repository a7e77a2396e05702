"""Two call sets compared: against bcftools isec, properties, regions, no-calls, names, builds and what is written."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.files.regions import Region, Regions
from careloop.genome.files.variant_file import open_variants
from careloop.genome.variants.compare import CompareOptions, compare
from careloop.genome.variants.comparison import Comparison, Counts, wilson_interval
from careloop.genome.variants.haplotypes import search

BASES = "ACGTTGCAGTCCATGACCGTAAGCTTGAC" * 40
SIZES = {"20": len(BASES)}


@pytest.fixture
def compared(write_fasta, write_vcf) -> Callable[..., Comparison]:
    """Compare rows against rows on BASES."""

    def run(truth: list, calls: list, **keywords) -> Comparison:
        reference = write_fasta({"20": BASES})
        paths = [write_vcf(f"{name}.vcf", rows, contigs=SIZES) for name, rows in (("t", truth), ("c", calls))]
        return compare(*paths, reference, **keywords)

    return run


def snv(start: int, genotype: str = "0/1", *more: str) -> tuple:
    return (start, BASES[start], "ACGT"[("ACGT".index(BASES[start]) + 1) % 4], genotype, *more)


# --- independent sources ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [5, 6])
def test_agrees_with_bcftools_isec_after_normalisation(
    seed: int, bases, write_fasta, write_vcf, tmp_path: Path
) -> None:
    """Simple sites, far from one another: what isec finds in both after norm, by POS, REF and ALT."""
    from pysam import bcftools

    rng = random.Random(seed)
    sequence = bases(rng, 40_000)
    rows: dict[str, list] = {"truth": [], "calls": []}
    for start in range(200, 39_500, 150):
        chosen = rng.choice(["both", "both", "both", "truth", "calls", "genotype"])
        kind = rng.choice(["snv", "insertion", "deletion"])
        size = rng.randint(1, 4)
        ref = sequence[start : start + (size + 1 if kind == "deletion" else 1)]
        alt = {"snv": rng.choice("ACGT".replace(ref[0], "")), "deletion": ref[0]}.get(
            kind, ref[0] + "".join(rng.choices("ACGT", k=size))
        )
        genotype = rng.choice(["0/1", "1/1"])
        if chosen != "calls":
            rows["truth"].append((start, ref, alt, genotype))
        if chosen == "genotype":
            genotype = {"0/1": "1/1", "1/1": "0/1"}[genotype]
        if chosen != "truth":
            rows["calls"].append((start, ref, alt, genotype))
    reference = write_fasta({"20": sequence})
    paths = [write_vcf(f"{name}.vcf", rows[name], contigs={"20": len(sequence)}) for name in rows]
    found = compare(*paths, reference).counts["all"]
    normal = []
    for path in paths:
        out = tmp_path / f"{path.stem}.norm.vcf.gz"
        bcftools.norm("-m-any", "-f", str(reference), "-Oz", "-o", str(out), str(path), catch_stdout=False)
        bcftools.index("-f", str(out), catch_stdout=False)
        normal.append(str(out))
    bcftools.isec("-p", str(tmp_path / "isec"), *normal, catch_stdout=False)
    sizes = [len([1 for _ in open_variants(tmp_path / "isec" / f"000{i}.vcf").records()]) for i in range(4)]
    assert found.truth_matched + found.genotype_errors == sizes[2] == sizes[3]
    assert found.missed - found.genotype_errors == sizes[0]
    assert found.false - found.genotype_errors == sizes[1]
    assert found.genotype_errors > 10


def test_wilson_interval_against_published_values() -> None:
    """Newcombe, Stat Med 1998;17:857, table I: 81 of 263 and 15 of 148."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 0) is None


def test_f1_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Simulated: each variant is matched, missed or false with known chances; 95 % of intervals hold the true F1."""
    rng = random.Random(7)
    true_f1 = 2 * 0.9 / (2 * 0.9 + 0.04 + 0.06)
    held = 0
    for _ in range(1_000):
        outcome = rng.choices(["matched", "missed", "false"], weights=[0.9, 0.04, 0.06], k=400)
        matched = outcome.count("matched")
        counts = Counts(matched, outcome.count("missed"), matched, outcome.count("false"))
        low, high = counts.f1_interval
        held += low <= true_f1 <= high
    assert 925 <= held <= 975


# --- properties ---------------------------------------------------------------------------------------------------

RUN = "ACGTAAAAAAAAGCGCGCGCTTACGGATCCATATATATGGCAACGTCA" * 3


@st.composite
def call_sets(draw) -> list[tuple[int, str, str, str]]:
    """Records close together, some overlapping, multi-allelic, phased or alike."""
    rows = []
    for _ in range(draw(st.integers(1, 7))):
        start = draw(st.integers(1, 90))
        ref = RUN[start : start + draw(st.integers(1, 4))]
        texts = st.text("ACGT", min_size=1, max_size=4).filter(lambda text, ref=ref: text != ref)
        alts = draw(st.lists(texts, min_size=1, max_size=2, unique=True))
        genotype = draw(st.sampled_from(["0/1", "1/1", "0|1", "1|0", "1|1"] + ["1/2", "2|1"] * (len(alts) == 2)))
        rows.append((start, ref, ",".join(alts), genotype))
    return rows


# The folder of the fixtures is the same for all examples: each writes its files anew.
EXAMPLES = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def compared_on_run(truth: list, calls: list, write_fasta: Callable, write_vcf: Callable) -> Comparison:
    paths = [write_vcf(f"{name}.vcf", rows, contigs={"20": len(RUN)}) for name, rows in (("t", truth), ("c", calls))]
    return compare(*paths, write_fasta({"20": RUN}))


@given(rows=call_sets())
@settings(max_examples=60, **EXAMPLES)
def test_a_set_agrees_with_itself(rows: list, write_fasta, write_vcf) -> None:
    counts = compared_on_run(rows, rows, write_fasta, write_vcf).counts["all"]
    assert (counts.missed, counts.false, counts.truth_matched) == (0, 0, len(rows))
    assert counts.f1 == 1


@given(one=call_sets(), other=call_sets())
@settings(max_examples=80, **EXAMPLES)
def test_exchanging_the_sets_exchanges_precision_and_recall(one: list, other: list, write_fasta, write_vcf) -> None:
    mixed = one[: len(one) // 2] + other
    forth = compared_on_run(one, mixed, write_fasta, write_vcf)
    back = compared_on_run(mixed, one, write_fasta, write_vcf)
    for kind in ("snp", "indel", "all"):
        there, here = forth.counts[kind], back.counts[kind]
        assert (there.truth_matched, there.missed) == (here.calls_matched, here.false)
        assert (there.calls_matched, there.false) == (here.truth_matched, here.missed)
        assert (there.precision, there.recall) == (here.recall, here.precision)


# --- genotypes, phase ----------------------------------------------------------------------------------------------


def test_genotype_errors_count_as_missed_and_false_and_apart(compared) -> None:
    counts = compared([snv(100), snv(400, "1/1")], [snv(100, "1/1"), snv(400, "1/1")]).counts["snp"]
    assert (counts.truth_matched, counts.missed, counts.false, counts.genotype_errors) == (1, 1, 1, 1)


def test_cis_against_trans_is_a_phase_error_only_where_both_are_phased(compared) -> None:
    cis, trans = [snv(100, "0|1"), snv(104, "0|1")], [snv(100, "0|1"), snv(104, "1|0")]
    counts = compared(cis, trans).counts["snp"]
    assert (counts.truth_matched, counts.phase_errors) == (1, 1)
    assert compared(cis, [snv(100), snv(104)]).counts["snp"].truth_matched == 2


def test_a_deletion_shifted_past_another_variant_is_another_sequence(write_fasta, write_vcf) -> None:
    """AAATA against AATAA of AAAAAA: left-aligning by itself, as a normalising program does, makes them look alike."""
    sequence = "ACGTTGCA" * 20 + "C" + "A" * 6 + "GCTTGCAT" * 20
    snv_within, sizes = (164, "A", "T", "1/1"), {"20": len(sequence)}
    truth = write_vcf("t.vcf", [snv_within, (165, "AA", "A", "1/1")], contigs=sizes)
    calls = write_vcf("c.vcf", [(160, "CA", "C", "1/1"), snv_within], contigs=sizes)
    counts = compare(truth, calls, write_fasta({"20": sequence})).counts["all"]
    assert (counts.truth_matched, counts.missed, counts.calls_matched, counts.false) == (1, 1, 1, 1)


def test_a_deletion_is_compared_with_whatever_stands_at_the_other_end_of_its_repeat(write_fasta, write_vcf) -> None:
    """One A of 300 deleted and the G behind them changed; the calls have both as one complex record at the right."""
    sequence = "ACGTTGCA" * 20 + "A" * 300 + "GCTTGCAT" * 20
    sizes = {"20": len(sequence)}
    truth = write_vcf("t.vcf", [(158, "CA", "C", "1/1"), (460, "G", "T", "1/1")], contigs=sizes)
    calls = write_vcf("c.vcf", [(459, "AG", "T", "1/1")], contigs=sizes)
    assert compare(truth, calls, write_fasta({"20": sequence})).counts["all"].f1 == 1


def test_an_insertion_and_the_change_behind_it_are_one_complex_variant(compared) -> None:
    start, base, (_, ref, alt, _) = 100, BASES[99], snv(100)
    parts = [(start - 1, base, base + "TT", "0/1"), (start, ref, alt, "0/1")]
    assert compared(parts, [(start, ref, "TT" + alt, "0/1")]).counts["all"].f1 == 1


def test_records_that_contradict_others_of_their_set_match_their_like(compared) -> None:
    """A base changed within a deletion on the same chromosomes: nonsense, but in both sets the same nonsense."""
    both = [(100, BASES[100:105], BASES[100], "1/1"), snv(102, "1/1")]
    counts = compared(both, [*both, snv(120)]).counts["all"]
    assert (counts.truth_matched, counts.missed, counts.calls_matched, counts.false) == (2, 0, 2, 1)


def test_phase_sets_are_kept_apart(compared) -> None:
    """The same as above, but the second set's calls are in phase sets of their own: nothing is said of them."""
    cis = [snv(100, "0|1"), snv(104, "0|1")]
    apart = [snv(100, "0|1:100", "GT:PS"), snv(104, "1|0:105", "GT:PS")]
    assert compared(cis, apart).counts["snp"].truth_matched == 2


def test_one_allele_of_a_male_x_counts_as_two_alike(compared) -> None:
    assert compared([snv(100, "1")], [snv(100, "1/1")]).counts["snp"].f1 == 1


def test_a_spanning_deletion_is_nothing_of_the_records_own(compared) -> None:
    start = 100
    deletion = (start, BASES[start : start + 4], BASES[start], "0/1")
    base, other = BASES[start + 2], "ACGT"[("ACGT".index(BASES[start + 2]) + 1) % 4]
    star = (start + 2, base, f"{other},*", "1/2")
    assert compared([deletion, (start + 2, base, other, "0/1")], [deletion, star]).counts["all"].f1 == 1


# --- what is not assessed -------------------------------------------------------------------------------------------


def test_no_calls_are_counted_and_are_no_errors(compared) -> None:
    found = compared(
        [snv(100), snv(200, "./."), snv(300), snv(500, "./1")], [snv(100), snv(200), snv(300, "./."), snv(700, "0/0")]
    )
    counts = found.counts["snp"]
    assert (counts.truth_matched, counts.missed, counts.false) == (1, 1, 0)
    assert found.not_assessed == {"truth": {"no-call": 2}, "calls": {"no-call": 1, "truth says no-call": 1}}
    assert found.missed_at_no_call == 1


def test_filtered_symbolic_and_long_alleles_are_counted_by_reason(compared) -> None:
    calls = [snv(100, "0/1", "GT", "50", "low"), (200, BASES[200], "<DEL>", "0/1")]
    calls += [(300, BASES[300], BASES[300] + "ACGT" * 300, "0/1"), (400, BASES[400], "<NON_REF>", "0/0")]
    found = compared([snv(100)], calls)
    assert found.not_assessed["calls"] == {"filtered": 1, "symbolic or breakend allele": 1, "allele too long": 1}
    assert found.counts["all"].missed == 1
    kept = compared([snv(100)], calls[:1], options=CompareOptions(filters="all"))
    assert kept.counts["all"].f1 == 1


def test_only_the_confident_regions_are_assessed(compared, tmp_path: Path) -> None:
    (tmp_path / "sure.bed").write_text("20\t90\t110\nchr20\t300\t400\n")
    found = compared([snv(100), snv(200), snv(350)], [snv(100), snv(500)], regions=tmp_path / "sure.bed")
    counts = found.counts["snp"]
    assert (counts.truth_matched, counts.missed, counts.calls_matched, counts.false) == (1, 1, 1, 0)
    assert found.outside == {"truth": 1, "calls": 1}
    typed = Regions([Region("chr20", 90, 110), Region("20", 300, 400)])
    assert compared([snv(100), snv(200), snv(350)], [snv(100), snv(500)], regions=typed) == found


def test_a_match_counts_where_any_of_its_spellings_lies_inside(write_fasta, write_vcf, tmp_path: Path) -> None:
    """A deletion in a long run of A, at its left end in the truth and at its right end, outside, in the calls."""
    sequence = "ACGTTGCA" * 20 + "A" * 300 + "GCTTGCAT" * 20
    sizes = {"20": len(sequence)}
    truth = write_vcf("t.vcf", [(160, "AA", "A", "0/1")], contigs=sizes)
    calls = write_vcf("c.vcf", [(458, "AA", "A", "0/1")], contigs=sizes)
    (tmp_path / "sure.bed").write_text("20\t0\t170\n")
    found = compare(truth, calls, write_fasta({"20": sequence}), regions=tmp_path / "sure.bed")
    assert (found.counts["indel"].truth_matched, found.counts["indel"].calls_matched) == (1, 1)


def test_strata_are_counted_by_themselves(compared, tmp_path: Path) -> None:
    (tmp_path / "hard.bed").write_text("20\t190\t210\n")
    options = CompareOptions(strata={"hard": tmp_path / "hard.bed"})
    found = compared([snv(100), snv(200)], [snv(100)], options=options)
    assert found.strata["hard"]["snp"] == Counts(missed=1)
    assert found.counts["snp"].recall == 0.5
    assert [(row["stratum"], row["type"]) for row in found.rows()][-1] == ("hard", "all")


def test_a_cluster_too_complex_is_compared_by_spelling_and_counted(compared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_STATES", 1)
    found = compared([snv(100), snv(110, "1/1"), snv(120)], [snv(100), snv(110)])
    assert found.too_complex == 1
    counts = found.counts["snp"]
    assert (counts.truth_matched, counts.missed, counts.false, counts.genotype_errors) == (1, 2, 1, 1)


# --- thresholds, verdicts -------------------------------------------------------------------------------------------


def test_the_curve_drops_calls_below_each_threshold(compared) -> None:
    calls = [snv(100, "0/1", "GT", "10"), snv(200, "0/1", "GT", "30.5"), snv(300, "0/1", "GT", "20")]
    points = compared([snv(100), snv(200)], calls).curve["snp"]
    assert [(p.threshold, p.truth_matched, p.false, p.recall) for p in points] == [
        (10.0, 2, 1, 1.0), (20.0, 1, 1, 0.5), (30.0, 1, 0, 0.5),
    ]  # fmt: skip


def test_all_of_a_comparison_is_plain_for_json(compared) -> None:
    found = json.loads(json.dumps(compared([snv(100)], [snv(100), snv(200)]).as_dict()))
    assert found["figures"][0]["precision"] == 0.5
    assert found["figures"][0]["recall_interval"] == pytest.approx(wilson_interval(1, 1))
    assert found["curve"]["snp"][0]["threshold"] == 50
    assert found["not_assessed"] == {"truth": {}, "calls": {}}


def test_the_curve_goes_by_a_format_field_as_well(compared) -> None:
    options = CompareOptions(score="GQ")
    found = compared([snv(100)], [snv(100, "0/1:7", "GT:GQ"), snv(200, "0/1:.", "GT:GQ")], options=options)
    assert [(p.threshold, p.calls_matched, p.false) for p in found.curve["snp"]] == [(-1.0, 1, 1), (7.0, 1, 0)]


def test_verdicts_are_written_beside_what_the_files_said(compared, tmp_path: Path) -> None:
    truth = [snv(100), snv(200, "1/1"), snv(300), snv(400, "0/0")]
    calls = [snv(100), snv(200), snv(500), snv(600, "./.")]
    compared(truth, calls, options=CompareOptions(out=tmp_path / "out"))
    written = [list(open_variants(tmp_path / "out" / f"{name}.vcf.gz").records()) for name in ("truth", "calls")]
    said = [[(r.info.get("BD"), r.info.get("BK")) for r in records] for records in written]
    assert said[0] == [("TP", "gm"), ("FN", "am"), ("FN", None), (None, None)]
    assert said[1] == [("TP", "gm"), ("FP", "am"), ("FP", None), ("N", None)]
    assert written[0][0].info["BG"] == written[1][0].info["BG"] != written[0][1].info["BG"]
    assert [r.start for r in written[1]] == [100, 200, 500, 600]


# --- names, builds, samples, order ----------------------------------------------------------------------------------


def test_chr20_and_20_are_one_contig(write_fasta, write_vcf) -> None:
    truth = write_vcf("t.vcf", [snv(100)], contigs={"chr20": len(BASES)})
    calls = write_vcf("c.vcf", [snv(100)], contigs=SIZES)
    assert compare(truth, calls, write_fasta({"NC_000020.11": BASES})).counts["snp"].f1 == 1


def test_contigs_without_reference_are_counted(write_fasta, write_vcf) -> None:
    sizes = {"GL1": 50, **SIZES}
    calls = write_vcf("c.vcf", [(10, "A", "C", "0/1")], contigs=sizes, contig="GL1")
    truth = write_vcf("t.vcf", [snv(100)], contigs=SIZES)
    found = compare(truth, calls, write_fasta({"20": BASES}))
    assert found.not_assessed["calls"] == {"contig is not in the reference": 1}
    assert found.counts["snp"] == Counts(missed=1)


def test_files_of_two_builds_are_refused(write_fasta, write_vcf) -> None:
    truth = write_vcf("t.vcf", [snv(100)], contigs={"20": 63_025_520})
    calls = write_vcf("c.vcf", [snv(100)], contigs={"20": 64_444_167})
    with pytest.raises(InputError, match="GRCh3"):
        compare(truth, calls, write_fasta({"20": BASES}))


def test_calls_whose_ref_is_of_another_sequence_are_refused(compared) -> None:
    wrong = [(start, "ACGT"[("ACGT".index(BASES[start]) + 1) % 4], BASES[start], "0/1") for start in range(50, 350, 10)]
    with pytest.raises(InputError, match="REF must be the reference's bases"):
        compared([snv(100)], wrong)


def test_a_single_wrong_ref_is_counted(compared) -> None:
    wrong = (100, "ACGT"[("ACGT".index(BASES[100]) + 1) % 4], BASES[100], "0/1")
    assert compared([snv(300)], [snv(300), wrong]).not_assessed["calls"] == {"REF is not the reference's base": 1}


def test_samples_must_be_there_and_named(write_fasta, write_vcf) -> None:
    reference = write_fasta({"20": BASES})
    truth = write_vcf("t.vcf", [snv(100)], contigs=SIZES)
    none = write_vcf("n.vcf", [snv(100)], contigs=SIZES, sample="")
    two = write_vcf("two.vcf", [snv(100, "0/1\t0/0")], contigs=SIZES, sample="A\tB")
    with pytest.raises(InputError, match="has no sample"):
        compare(truth, none, reference)
    with pytest.raises(InputError, match="name the sample to compare, one of A, B"):
        compare(truth, two, reference)
    with pytest.raises(InputError, match="no sample 'C'; it has A, B"):
        compare(truth, two, reference, options=CompareOptions(calls_sample="C"))
    assert compare(truth, two, reference, options=CompareOptions(calls_sample="B")).counts["all"] == Counts(missed=1)


def test_contigs_of_both_files_are_walked_together(write_fasta, write_vcf) -> None:
    sizes = {"1": len(BASES), "2": len(BASES), "3": len(BASES)}
    truth = write_vcf("t.vcf", [snv(100)], contigs=sizes, contig="3")
    calls = write_vcf("c.vcf", [snv(100)], contigs=sizes, contig="1")
    text = calls.read_text() + truth.read_text().splitlines()[-1] + "\n"
    calls.write_text(text)
    counts = compare(truth, calls, write_fasta(dict.fromkeys(sizes, BASES))).counts["snp"]
    assert (counts.truth_matched, counts.missed, counts.false) == (1, 0, 1)


def test_other_orders_of_contigs_and_unsorted_records_are_refused(write_fasta, write_vcf) -> None:
    reference = write_fasta({"1": BASES, "2": BASES})
    truth = write_vcf("t.vcf", [snv(100)], contigs={"1": len(BASES), "2": len(BASES)})
    calls = write_vcf("c.vcf", [snv(100)], contigs={"2": len(BASES), "1": len(BASES)})
    with pytest.raises(InputError, match="contigs in the same order"):
        compare(truth, calls, reference)
    lines = write_vcf("u.vcf", [snv(100), snv(200)], contigs={"1": len(BASES)}).read_text().splitlines()
    calls.write_text("\n".join([*lines[:-2], lines[-1], lines[-2]]) + "\n")
    with pytest.raises(InputError, match="records must be sorted, 1:101 comes too late"):
        compare(truth, calls, reference)


def test_bad_lines_are_counted(compared, write_fasta, write_vcf) -> None:
    truth = write_vcf("t.vcf", [snv(100)], contigs=SIZES)
    calls = write_vcf("c.vcf", [snv(100)], contigs=SIZES)
    calls.write_text(calls.read_text() + "20\tnowhere\t.\tA\tC\t.\t.\t.\tGT\t0/1\n")
    found = compare(truth, calls, write_fasta({"20": BASES}))
    assert found.unreadable_lines == {"truth": 0, "calls": 1}


def test_progress_is_told(compared) -> None:
    told = []
    compared([snv(100)], [snv(100)], progress=lambda *what: told.append(what))
    assert told[-1] == ("comparing 20", len(BASES), len(BASES))
