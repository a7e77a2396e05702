"""ACMG/AMP evidence: the published rules and points, PVS1 and PS1/PM5 beside a base-by-base model of the genome."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.annotate.acmg.assess import assess
from careloop.genome.annotate.acmg.combining import by_points, by_rules, points
from careloop.genome.annotate.acmg.criteria import CODES, Flag
from careloop.genome.annotate.acmg.evidence import Evidence, Frequency, KnownResidue, Sources, look_up
from careloop.genome.annotate.acmg.loss_of_function import Outcome
from careloop.genome.annotate.acmg.settings import AcmgSettings, MissenseScore
from careloop.genome.annotate.effect import Effect
from careloop.genome.annotate.effects import effects_of
from careloop.genome.annotate.known.files import open_known
from careloop.genome.annotate.known.request import KnownFile
from careloop.genome.annotate.transcript import Transcript
from careloop.genome.variant import Variant

pytest.importorskip("pysam")

PATHOGENIC = {"very strong": "PVS1", "strong": "PS1", "moderate": "PM5", "supporting": "PP3"}
BENIGN = {"stand-alone": "BA1", "strong": "BS1", "supporting": "BP4"}

# Richards et al. 2015, table 5: the fewest flags of each strength in one line of the table.
TABLE_5 = {
    "pathogenic": [
        "very strong+strong", "very strong+2 moderate", "very strong+moderate+supporting", "very strong+2 supporting",
        "2 strong", "strong+3 moderate", "strong+2 moderate+2 supporting", "strong+moderate+4 supporting",
    ],
    "likely pathogenic": [
        "very strong+moderate", "strong+moderate", "strong+2 supporting", "3 moderate", "2 moderate+2 supporting",
        "moderate+4 supporting",
    ],
    "benign": ["stand-alone", "2 strong"],
    "likely benign": ["strong+supporting", "2 supporting"],
}  # fmt: skip


def lines_of(name: str) -> list[Counter[str]]:
    lines = []
    for text in TABLE_5[name]:
        counts: Counter[str] = Counter()
        for part in text.split("+"):
            number, _, strength = part.partition(" ") if part[0].isdigit() else ("1", "", part)
            counts[strength] += int(number)
        lines.append(counts)
    return lines


def by_table(strengths: tuple[str, ...], names: tuple[str, str]) -> str | None:
    """The gravest class of the table of which some line is wholly there."""
    counts = Counter(strengths)
    for name in names:
        if any(all(counts[strength] >= n for strength, n in line.items()) for line in lines_of(name)):
            return name
    return None


def flags_of(strengths: tuple[str, ...], codes: dict[str, str]) -> list[Flag]:
    return [Flag(codes[strength], strength, "r", "d") for strength in strengths]  # type: ignore[arg-type]


def test_every_combination_is_classified_as_in_the_table_of_2015() -> None:
    pathogenic = [
        c for n in range(6) for c in combinations_with_replacement(PATHOGENIC, n) if c.count("very strong") < 2
    ]
    benign = [c for n in range(4) for c in combinations_with_replacement(BENIGN, n) if c.count("stand-alone") < 2]
    classes: Counter[str] = Counter()
    for p in pathogenic:
        for b in benign:
            one, other = by_table(p, ("pathogenic", "likely pathogenic")), by_table(b, ("benign", "likely benign"))
            expected = "uncertain significance" if bool(one) == bool(other) else one or other
            assert by_rules(flags_of(p, PATHOGENIC) + flags_of(b, BENIGN)) == expected, (p, b)
            classes[str(expected)] += 1
    assert len(classes) == 5


def test_rarity_beside_a_null_variant_is_likely_pathogenic() -> None:
    null = Flag("PVS1", "very strong", "r", "d")
    assert by_rules([null, Flag("PM2", "supporting", "r", "d")]) == "likely pathogenic"
    assert by_rules([null, Flag("PP3", "supporting", "r", "d")]) == "uncertain significance"


@pytest.mark.parametrize(
    ("strengths", "total", "expected"),  # Tavtigian et al. 2020, table 3: the ends of each class
    [
        (("very strong", "moderate"), 10, "pathogenic"),
        (("very strong", "supporting"), 9, "likely pathogenic"),
        (("strong", "moderate"), 6, "likely pathogenic"),
        (("strong", "supporting"), 5, "uncertain significance"),
        ((), 0, "uncertain significance"),
    ],
)
def test_points_are_those_published(strengths: tuple[str, ...], total: int, expected: str) -> None:
    flags = flags_of(strengths, PATHOGENIC)
    assert (points(flags), by_points(flags)) == (total, expected)


@pytest.mark.parametrize(
    ("strengths", "total", "expected"),
    [
        (("supporting",), -1, "likely benign"),
        (("strong", "supporting", "supporting"), -6, "likely benign"),
        (("strong", "supporting", "supporting", "supporting"), -7, "benign"),
        (("stand-alone",), 0, "benign"),
    ],
)
def test_points_against_are_negative(strengths: tuple[str, ...], total: int, expected: str) -> None:
    flags = flags_of(strengths, BENIGN)
    assert (points(flags), by_points(flags)) == (total, expected)


def test_a_changed_strength_is_in_the_name() -> None:
    assert [Flag("PM2", s, "r", "d").name for s in ("moderate", "supporting")] == ["PM2", "PM2_Supporting"]
    assert Flag("PP3", "very strong", "r", "d").name == "PP3_VeryStrong"


TRANSCRIPT = Transcript("T1", "G1", "GENE", "1", 1, ((0, 400),), ((10, 310),), tags=frozenset({"MANE_Select"}))
TERMS = [
    ("missense_variant",), ("synonymous_variant",), ("stop_gained",), ("frameshift_variant", "splice_region_variant"),
    ("inframe_deletion",), ("stop_lost",), ("splice_donor_variant",), ("start_lost",), ("intron_variant",),
]  # fmt: skip
SHARES = st.one_of(st.none(), st.floats(0, 1))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    terms=st.sampled_from(TERMS),
    frequency=st.one_of(
        st.none(), st.builds(Frequency, st.just("gnomad"), SHARES, SHARES, st.sampled_from([None, 100, 5000]),
                             absent=st.booleans(), trusted=st.booleans())),
    repeat=st.sampled_from([None, True, False]),
    delta=SHARES,
    score=SHARES,
    outcome=st.sampled_from([None, Outcome("strong", "y"), Outcome(None, "y"), Outcome(None, "y", followed=False)]),
    listed=st.booleans(),
)  # fmt: skip
def test_every_criterion_is_in_one_place_with_a_reason(
    terms: tuple[str, ...], frequency: Any, repeat: Any, delta: Any, score: Any, outcome: Any, listed: bool
) -> None:
    effect = Effect(TRANSCRIPT, "T", terms, "HIGH", ref_protein="R", alt_protein="W", protein_start=4)
    evidence = Evidence(
        frequency, (KnownResidue("Q", Variant("1", 20, "A", "C"), "9", "clinvar"),), repeat, delta, score, outcome
    )
    chosen = AcmgSettings(
        loss_of_function_genes=frozenset({"GENE"} if listed else ()),
        expected_above=0.01,
        score=MissenseScore("scores", "REVEL", "REVEL"),
    )
    found = assess(effect, evidence, chosen)
    places = [*(flag.code for flag in found.flags), *found.not_met, *found.not_assessed]
    assert sorted(places) == sorted(CODES)
    assert len(CODES) == 28
    assert all(flag.reason and flag.data for flag in found.flags)
    assert all({**found.not_met, **found.not_assessed}.values())
    met = {flag.code for flag in found.flags}
    for one, other in (("PM2", "BA1"), ("PM2", "BS1"), ("BA1", "BS1"), ("PP3", "BP4"), ("PM4", "BP3")):
        if one != "PM2" or (
            frequency and (frequency.filtering is None or frequency.filtering <= (frequency.highest or 0))
        ):
            assert not {one, other} <= met
    assert not met & {"PP5", "BP6"}
    assert ("PVS1" in met) == (
        bool(outcome and outcome.strength) and listed and terms in [TERMS[i] for i in (2, 3, 6, 7)]
    )
    assert "needs a geneticist" in found.suggestion


def flags_for(terms: tuple[str, ...], evidence: Evidence, chosen: AcmgSettings | None = None) -> list[str]:
    effect = Effect(TRANSCRIPT, "T", terms, "HIGH", ref_protein="R", alt_protein="W", protein_start=4)
    return [flag.name for flag in assess(effect, evidence, chosen or AcmgSettings()).flags]


REVEL = AcmgSettings(score=MissenseScore("scores", "REVEL", "REVEL"))


@pytest.mark.parametrize(
    ("score", "expected"),  # Pejaver et al. 2022, table 2
    [
        (0.932, "PP3_Strong"), (0.931, "PP3_Moderate"), (0.773, "PP3_Moderate"), (0.772, "PP3"), (0.644, "PP3"),
        (0.643, None), (0.291, None), (0.290, "BP4"), (0.184, "BP4"), (0.183, "BP4_Moderate"), (0.016, "BP4_Strong"),
        (0.003, "BP4_VeryStrong"),
    ],
)  # fmt: skip
def test_calibrated_scores_reach_the_published_strengths(score: float, expected: str | None) -> None:
    assert flags_for(("missense_variant",), Evidence(score=score), REVEL) == ([expected] if expected else [])
    assert flags_for(("synonymous_variant",), Evidence(score=score), REVEL) == []


def test_splice_scores_speak_for_and_against() -> None:
    assert flags_for(("synonymous_variant",), Evidence(splice_delta=0.1)) == ["BP4", "BP7"]
    assert flags_for(("synonymous_variant",), Evidence(splice_delta=0.2)) == ["PP3"]
    assert flags_for(("intron_variant",), Evidence(splice_delta=0.15)) == []
    assert flags_for(("splice_region_variant", "synonymous_variant"), Evidence(splice_delta=0.05)) == ["BP4"]
    assert flags_for(("missense_variant",), Evidence(splice_delta=0.9, score=0.1), REVEL) == ["PP3"]


def test_frequencies_speak_for_and_against() -> None:
    chosen = AcmgSettings(expected_above=0.001)
    cases = {
        "PM2_Supporting": Frequency("gnomad", absent=True),
        "BA1": Frequency("gnomad", 0.2, alleles=10_000),
        "BS1": Frequency("gnomad", 0.2, filtering=0.01, alleles=10_000),
        "": Frequency("gnomad", 0.2, alleles=100),
    }
    for expected, frequency in cases.items():
        assert flags_for(("intron_variant",), Evidence(frequency), chosen) == ([expected] if expected else [])
    rare = Evidence(Frequency("gnomad", 9e-5, alleles=100_000))
    assert flags_for(("intron_variant",), rare) == ["PM2_Supporting"]
    assert flags_for(("intron_variant",), rare, AcmgSettings(rare_strength="moderate")) == ["PM2"]
    assert flags_for(("intron_variant",), rare, AcmgSettings(rare_below=1e-5)) == []
    failed = Evidence(Frequency("gnomad", 0.2, alleles=10_000, trusted=False))
    assert flags_for(("intron_variant",), failed, chosen) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: MissenseScore("f", "k"),
        lambda: MissenseScore("f", "k", "REVEL", pp3_from=0.5, bp4_to=0.1),
        lambda: MissenseScore("f", "k", pp3_from=0.1, bp4_to=0.5),
        lambda: AcmgSettings(rare_below=2),
        lambda: AcmgSettings(fewest_stars=5),
        lambda: AcmgSettings(splice_from=0.1, splice_to=0.2),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(make: Any) -> None:
    with pytest.raises(InputError):
        make()


# A genome as a list of bases, each with its exon: the mutated mRNA and its stop codon are found without any offsets.
CODE = dict(
    zip(
        (a + b + c for a in "TCAG" for b in "TCAG" for c in "TCAG"),
        "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
        strict=True,
    )
)
OPPOSITE = dict(zip("ACGT", "TGCA", strict=True))


def mutated_message(sequence: str, transcript: Transcript, variant: Variant) -> list[tuple[str, int]]:
    """Bases of the mutated mRNA from the start codon on, each with the number of its exon along the transcript."""
    owner = {at: i for i, (a, b) in enumerate(transcript.exons) for at in range(a, b)}
    coding = min(a for a, _ in transcript.cds), max(b for _, b in transcript.cds)
    bases: list[tuple[str, int]] = []
    for at in range(transcript.start, transcript.end):
        kept = at - variant.start < len(variant.alt) or not variant.start <= at < variant.end
        text = sequence[at]
        if variant.start <= at < variant.end:
            text = variant.alt[at - variant.start] if kept else ""
            if at == variant.end - 1:
                text += variant.alt[len(variant.ref) :]
        if at in owner and (at >= coding[0] if transcript.strand > 0 else at < coding[1]):
            bases += [(base, owner[at]) for base in text]
    if transcript.strand < 0:
        bases = [(OPPOSITE[base], len(transcript.exons) - 1 - exon) for base, exon in reversed(bases)]
    return bases


def expected_pvs1(message: list[tuple[str, int]], exons: list[int]) -> tuple[str | None, int]:
    """Strength by decay alone ("" where it depends on the share lost), and the index of the stop codon's first base."""
    stop = next(
        (i for i in range(0, len(message) - 2, 3) if CODE["".join(b for b, _ in message[i : i + 3])] == "*"), None
    )
    if stop is None:
        return None, -1
    last = len(exons) - 1
    behind = [exon for _, exon in message[stop + 3 :]]
    if last == 0 or message[stop + 2][1] == last:
        return "", stop
    before_last = sum(1 for exon in behind if exon < last)
    return ("very strong" if before_last >= min(50, exons[-2]) else ""), stop


def test_truncating_variants_follow_the_tree_base_by_base(gene_world: Any) -> None:
    known = open_known([], gene_world.reference)
    by_gene = frozenset(t.gene_id for t in gene_world.genes.transcripts)
    chosen = AcmgSettings(
        loss_of_function_genes=by_gene, relevant_transcripts=frozenset(t.id for t in gene_world.genes.transcripts)
    )
    sources = Sources(known, gene_world.sequences, chosen, genes=gene_world.genes)
    strengths: Counter[str] = Counter()
    for variant in gene_world.variants:
        for effect in effects_of(variant, gene_world.genes, gene_world.sequences, gene_world.fetch):
            transcript = effect.transcript
            if transcript is None or effect.terms[0] not in ("stop_gained", "frameshift_variant"):
                continue
            in_one_exon = any(a <= variant.start and variant.end < b for a, b in transcript.exons)
            if transcript.phase or not transcript.complete_start or not in_one_exon or (effect.cds_start or 0) < 3:
                continue
            found = assess(effect, look_up(variant, effect, sources), chosen)
            lengths = [b - a for a, b in transcript.exons[:: transcript.strand]]
            message = mutated_message(gene_world.sequence, transcript, variant)
            exon_sizes = list(lengths)
            touched = effect.exon[0] - 1 if effect.exon else 0
            exon_sizes[touched] += len(variant.alt) - len(variant.ref)
            expected, stop = expected_pvs1(message, exon_sizes)
            pvs1 = [flag for flag in found.flags if flag.code == "PVS1"]
            if expected is None:
                assert "PVS1" in found.not_assessed
                strengths["no stop"] += 1
                continue
            (flag,) = pvs1
            if not expected:
                residues = transcript.cds_length // 3 - 1
                kept = effect.protein_start - 1
                expected = "strong" if (residues - kept) / residues > 0.1 else "moderate"
            assert flag.strength == expected, (variant, transcript.id, stop)
            strengths[expected] += 1
    assert strengths["very strong"] > 50
    assert strengths["strong"] > 20
    assert strengths["moderate"] > 3


def skipped_protein(sequence: str, transcript: Transcript, exon: int) -> str:
    """The protein (with `*` at a stop) of the mRNA without one exon, numbered from 0 along the transcript."""
    message = [b for b in mutated_message(sequence, transcript, Variant("1", 0, "", "")) if b[1] != exon]
    residues = ""
    for i in range(0, len(message) - 2, 3):
        residues += CODE["".join(b for b, _ in message[i : i + 3])]
        if residues.endswith("*"):
            break
    return residues


def test_splice_site_variants_follow_the_skipped_exon(gene_world: Any) -> None:
    known = open_known([], gene_world.reference)
    sources = Sources(known, gene_world.sequences, AcmgSettings(), genes=gene_world.genes)
    outcomes: Counter[str] = Counter()
    for transcript in gene_world.genes.transcripts:
        if not transcript.coding or transcript.phase or not transcript.complete_start:
            continue
        whole = skipped_protein(gene_world.sequence, transcript, -1)
        for number, (start, end) in enumerate(transcript.introns[:: transcript.strand], start=1):
            donor, acceptor = (start, end - 1) if transcript.strand > 0 else (end - 1, start)
            for at, exon in ((donor, number), (acceptor, number + 1)):
                base = gene_world.sequence[at]
                variant = Variant("1", at, base, OPPOSITE[base])
                effects = effects_of(variant, gene_world.genes, gene_world.sequences, gene_world.fetch)
                (effect,) = [e for e in effects if e.transcript is transcript]
                outcome = look_up(variant, effect, sources).loss_of_function
                assert outcome is not None
                if exon in (1, len(transcript.exons)):
                    assert (outcome.strength, outcome.followed) == (None, False)
                    continue
                first, last = transcript.exons[:: transcript.strand][exon - 1]
                coding = sum(max(0, min(b, last) - max(a, first)) for a, b in transcript.cds)
                starts = transcript.cds[0][0] if transcript.strand > 0 else transcript.cds[-1][1] - 1
                stops = transcript.cds[-1][1] - 1 if transcript.strand > 0 else transcript.cds[0][0]
                protein = skipped_protein(gene_world.sequence, transcript, exon - 1)
                if coding == 0:
                    assert (outcome.strength, outcome.followed) == (None, True)
                elif first <= starts < last or not protein.endswith("*"):
                    assert (outcome.strength, outcome.followed) == (None, False)
                elif coding % 3 == 0 and not first <= stops < last and len(whole) - len(protein) == coding // 3:
                    share = coding / 3 / (len(whole) - 1)
                    assert outcome.strength == ("strong" if share > 0.1 else "moderate")
                    assert "keep the reading frame" in outcome.reason
                    outcomes["kept"] += 1
                else:
                    assert "change the reading frame" in outcome.reason
                    outcomes[str(outcome.strength)] += 1
    assert outcomes["kept"] > 3
    assert outcomes["very strong"] > 10


def clinvar_file(folder: Path, rows: list[tuple[Variant, str, str]], length: int) -> Path:
    lines = ["##fileformat=VCFv4.1", "##reference=GRCh38", f"##contig=<ID=1,length={length}>"]
    lines += [f'##INFO=<ID={k},Number=.,Type=String,Description="x">' for k in ("CLNSIG", "CLNREVSTAT")]
    lines += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for i, (v, significance, status) in enumerate(sorted(rows, key=lambda row: row[0].start)):
        lines.append(f"1\t{v.start + 1}\t{i}\t{v.ref}\t{v.alt}\t.\t.\tCLNSIG={significance};CLNREVSTAT={status}")
    path = folder / "clinvar.vcf"
    path.write_text("\n".join(lines) + "\n")
    return path


def residue_change(sequence: str, transcript: Transcript, variant: Variant) -> tuple[int, str, str] | None:
    """Codon index, residue before and after of an SNV in the coding part; None where it is in none."""

    def residues(changed: Variant) -> str:
        message = mutated_message(sequence, transcript, changed)[: transcript.cds_length]
        return "".join(CODE["".join(b for b, _ in message[i : i + 3])] for i in range(0, len(message) - 2, 3))

    before, after = residues(Variant("1", 0, "", "")), residues(variant)
    differing = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    return (differing[0], before[differing[0]], after[differing[0]]) if differing else None


def test_known_changes_of_a_residue_are_found_across_codons_and_introns(gene_world: Any, tmp_path: Path) -> None:
    rng = random.Random(4)
    whole = [
        t
        for t in gene_world.genes.transcripts
        if t.coding and not t.phase and t.complete_start and t.cds_length % 3 == 0
    ]
    status = "criteria_provided,_single_submitter"
    rows: dict[Variant, tuple[str, str]] = {}
    queries: list[tuple[Transcript, Variant]] = []
    for transcript in whole[:14]:
        spots = [
            at for a, b in transcript.cds for at in (*range(a, min(a + 3, b)), *rng.sample(range(a, b), min(4, b - a)))
        ]
        for at in spots:
            for base in "ACGT".replace(gene_world.sequence[at], ""):
                variant = Variant("1", at, gene_world.sequence[at], base)
                queries.append((transcript, variant))
                if rng.random() < 0.3:
                    kind = rng.choice(["Pathogenic", "Pathogenic/Likely_pathogenic", "Benign", "Likely_pathogenic"])
                    rows[variant] = (kind, rng.choice([status, "no_assertion_criteria_provided"]))
    path = clinvar_file(tmp_path, [(v, *values) for v, values in rows.items()], len(gene_world.sequence))
    known = open_known([KnownFile("clinvar", path)], gene_world.reference)
    sources = Sources(known, gene_world.sequences, AcmgSettings(), genes=gene_world.genes)
    good = {v for v, (kind, stars) in rows.items() if kind.startswith("Pathogenic") and stars == status}
    changes = {(t.id, v): residue_change(gene_world.sequence, t, v) for t, v in queries}
    counts: Counter[str] = Counter()
    for transcript, variant in queries:
        effects = effects_of(variant, gene_world.genes, gene_world.sequences, gene_world.fetch)
        (effect,) = [e for e in effects if e.transcript is transcript]
        found = {f.code for f in assess(effect, look_up(variant, effect, sources), AcmgSettings()).flags}
        change = changes[transcript.id, variant]
        expected = set()
        if "missense_variant" in effect.terms and change is not None:
            others = [changes[transcript.id, v] for v in good if v != variant and (transcript.id, v) in changes]
            others = [o for o in others if o and o[0] == change[0] and o[2] != "*"]
            expected = {"PS1"} if any(o[2] == change[2] for o in others) else set()
            expected |= {"PM5"} if any(o[2] != change[2] for o in others) else set()
        assert found & {"PS1", "PM5"} == expected, (variant, transcript.id, change)
        counts.update(expected)
    assert counts["PM5"] > 30
    assert counts["PS1"] > 2


def test_lost_starts_ask_other_transcripts_and_known_variants(gene_world: Any, tmp_path: Path) -> None:
    transcript = next(t for t in gene_world.genes.transcripts if t.coding and t.complete_start and not t.phase)
    at = transcript.cds[0][0] if transcript.strand > 0 else transcript.cds[-1][1] - 1
    base = gene_world.sequence[at]
    variant = Variant("1", at, base, "C" if base in "AT" else "A")
    inside = at + 3 * transcript.strand
    row = (Variant("1", inside, gene_world.sequence[inside], "N"), "Pathogenic", "practice_guideline")
    effects = effects_of(variant, gene_world.genes, gene_world.sequences, gene_world.fetch)
    (effect,) = [e for e in effects if e.transcript is transcript]
    assert effect.terms[0] == "start_lost"
    strengths = []
    for files in ([], [KnownFile("clinvar", clinvar_file(tmp_path, [row], len(gene_world.sequence)))]):
        sources = Sources(open_known(files, gene_world.reference), gene_world.sequences, AcmgSettings())
        outcome = look_up(variant, effect, sources).loss_of_function
        assert outcome is not None
        strengths.append(outcome.strength)
    assert strengths == ["supporting", "moderate"]


def test_population_files_give_the_highest_frequency_and_absence_only_where_they_looked(
    gene_world: Any, tmp_path: Path
) -> None:
    sequence, at = gene_world.sequence, 5000
    other = {"A": "C", "C": "G", "G": "T", "T": "A"}
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID=1,length={len(sequence)}>", '##FILTER=<ID=AC0,Description="x">']
    lines += [f'##INFO=<ID={k},Number=A,Type=Float,Description="x">' for k in ("AF", "AF_grpmax", "faf95")]
    lines += ['##INFO=<ID=AN,Number=1,Type=Integer,Description="x">', "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for place, filters, info in (
        (at, "PASS", "AF=0.02;AF_grpmax=0.09;faf95=0.07;AN=5000"),
        (at + 1, "AC0", "AF=0.5;AN=5000"),
        (at + 2, "bad", "AF=0.5;AN=5000"),
    ):
        lines.append(f"1\t{place + 1}\t.\t{sequence[place]}\t{other[sequence[place]]}\t.\t{filters}\t{info}")
    path = tmp_path / "gnomad.vcf"
    path.write_text("\n".join(lines) + "\n")
    sources = Sources(
        open_known([KnownFile("gnomad", path)], gene_world.reference), gene_world.sequences, AcmgSettings()
    )
    intergenic = Effect(None, "T", ("intergenic_variant",), "MODIFIER")
    names = {}
    for place in (at, at + 1, at + 2, at + 3, at + 5000):
        variant = Variant("1", place, sequence[place], other[sequence[place]])
        found = assess(intergenic, look_up(variant, intergenic, sources), AcmgSettings())
        names[place - at] = [flag.name for flag in found.flags] or found.not_assessed.get("PM2")
    assert names[0] == ["BA1"]
    assert names[1] == names[3] == ["PM2_Supporting"]
    assert names[2] == "the record in gnomad failed a filter"
    assert "no record near" in names[5000]
