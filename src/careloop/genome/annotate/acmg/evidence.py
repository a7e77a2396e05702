"""What the known files, the sequence and the models say of one variant, gathered for the criteria."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from careloop.genome.annotate.acmg import loss_of_function as pvs1
from careloop.genome.annotate.acmg.settings import AcmgSettings
from careloop.genome.annotate.coding import STOP, SplicedSequences
from careloop.genome.annotate.consequence import Change, coding_change
from careloop.genome.annotate.effect import Effect
from careloop.genome.annotate.effects import change_of
from careloop.genome.annotate.known.files import KnownFiles
from careloop.genome.annotate.splice import SpliceModel
from careloop.genome.annotate.transcript import Transcript
from careloop.genome.annotate.transcripts import Genes
from careloop.genome.variant import Variant

_HIGHEST = ("AF_grpmax", "AF_popmax", "AF")  # allele frequencies of gnomAD 4, 2 and 3, any
_FILTERING = ("fafmax_faf95_max", "faf95_popmax", "faf95")  # its filtering allele frequencies, 95 %
_STARS = {
    "practice_guideline": 4,
    "reviewed_by_expert_panel": 3,
    "criteria_provided,_multiple_submitters,_no_conflicts": 2,
    "criteria_provided,_single_submitter": 1,
}
_NO_ALLELES = "AC0"  # gnomAD's filter of a variant that no genotype of good quality has


@dataclass(frozen=True)
class Sources:
    """Where evidence is looked up; what is None was not given."""

    known: KnownFiles
    sequences: SplicedSequences
    settings: AcmgSettings
    splice: SpliceModel | None = None
    genes: Genes | None = None


@dataclass(frozen=True)
class Frequency:
    """What population files say of an allele.

    `highest` is the highest allele frequency of any group (or of all), `filtering` the lower bound that gnomAD gives;
    both None where the file has no frequency. `absent` is that no file has it though one looked there. `trusted` is
    that the record failed no filter.
    """

    files: str
    highest: float | None = None
    filtering: float | None = None
    alleles: int | None = None
    absent: bool = False
    trusted: bool = True


@dataclass(frozen=True)
class KnownResidue:
    """A known pathogenic missense variant of the residue that is changed: what the residue becomes there."""

    alt_residue: str
    variant: Variant
    identifier: str
    file: str


@dataclass(frozen=True)
class Evidence:
    """What was found; None where it was not looked for or could not be."""

    frequency: Frequency | None = None
    residues: tuple[KnownResidue, ...] | None = None
    in_repeat: bool | None = None
    splice_delta: float | None = None
    score: float | None = None
    loss_of_function: pvs1.Outcome | None = None


def look_up(variant: Variant, effect: Effect, sources: Sources) -> Evidence:
    """Gather the evidence on an allele's effect on one transcript; variants come in the order of positions."""
    known, settings = sources.known, sources.settings
    matches = known.matches(variant) if settings.score or settings.splice_score else {}
    return Evidence(
        frequency=_frequency(variant, known),
        residues=_residues(variant, effect, sources),
        in_repeat=known.overlaps(settings.repeats, variant) if settings.repeats else None,
        splice_delta=_splice(variant, effect, sources, matches),
        score=_number(matches.get(settings.score.file, {}).get(settings.score.key)) if settings.score else None,
        loss_of_function=_loss_of_function(variant, effect, sources),
    )


def _frequency(variant: Variant, known: KnownFiles) -> Frequency | None:
    names = known.names("gnomad")
    if not names:
        return None
    told = ", ".join(names)
    found = [(name, allele) for name in names for allele in known.find(name, variant)]
    if not found:
        looked = any(known.looked_near(name, variant) for name in names)
        return Frequency(told, absent=True) if looked else Frequency(told)
    rows = []
    for name, allele in found:
        values = allele.values
        no_alleles = _NO_ALLELES in allele.filters
        highest = 0.0 if no_alleles else max(_numbers(values, _HIGHEST), default=None)
        filtering = next(iter(_numbers(values, _FILTERING)), None)
        alleles = next(iter(_numbers(values, ("AN",))), None)
        trusted = allele.passed or no_alleles
        rows.append(Frequency(name, highest, filtering, None if alleles is None else int(alleles), trusted=trusted))
    return max(rows, key=lambda row: (row.trusted, -1.0 if row.highest is None else row.highest))


def _residues(variant: Variant, effect: Effect, sources: Sources) -> tuple[KnownResidue, ...] | None:
    """Known pathogenic missense variants of the residue that a missense variant changes."""
    names = sources.known.names("clinvar")
    transcript = effect.transcript
    if not names or transcript is None or effect.protein_start is None or "missense_variant" not in effect.terms:
        return None
    spliced = sources.sequences.of(transcript)
    first = spliced.frame_start + 3 * (effect.protein_start - spliced.first_codon)
    found = {}
    for name in names:
        for start, end in pvs1.genomic_spans(transcript, first, first + 3):
            for allele in sources.known.within(name, variant.contig, start, end):
                if not _pathogenic(allele.values, sources.settings.fewest_stars):
                    continue
                change = change_of(allele.variant)
                residue = _missense_at(change, transcript, sources, effect.protein_start)
                if residue and change != change_of(variant):
                    found[change] = KnownResidue(residue, allele.variant, allele.identifier, name)
    return tuple(found.values())


def _missense_at(change: Change, transcript: Transcript, sources: Sources, codon: int) -> str:
    """The residue that a substitution puts at a codon (numbered as in the protein); empty where it is no missense."""
    coding = coding_change(change, transcript, sources.sequences) if len(change.ref) == len(change.alt) else None
    if coding is None or coding.codon + coding.spliced.first_codon != codon:
        return ""
    ref, alt = coding.ref_residues, coding.alt_residues
    return alt if len(ref) == len(alt) == 1 and alt not in (ref, STOP) else ""


def _pathogenic(values: Mapping[str, str], fewest_stars: int) -> bool:
    """Whether a ClinVar record is classified pathogenic (not only likely so), with the review status asked for."""
    significance = values.get("CLNSIG", "").split("|")[0]
    classes = significance.split("/")
    if "Pathogenic" not in classes or not set(classes) <= {"Pathogenic", "Likely_pathogenic"}:
        return False
    return _STARS.get(values.get("CLNREVSTAT", ""), 0) >= fewest_stars


def _splice(
    variant: Variant, effect: Effect, sources: Sources, matches: Mapping[str, Mapping[str, str]]
) -> float | None:
    """The largest change of a splice site's score, given in a file or by the model."""
    if sources.settings.splice_score:
        name, key = sources.settings.splice_score
        text = matches.get(name, {}).get(key)
        if text is not None:
            return _largest_delta(text)
    if sources.splice and effect.transcript and effect.distance is None:
        delta = sources.splice.delta(variant, effect.transcript)
        return None if delta is None else delta.largest
    return None


def _largest_delta(text: str) -> float | None:
    """The largest of the scores in SpliceAI's INFO value (ALLELE|SYMBOL|DS_AG|DS_AL|DS_DG|DS_DL|...), or a number."""
    numbers = []
    for entry in text.replace("&", ",").split(","):
        parts = entry.split("|")
        numbers += [_number(part) for part in (parts[2:6] if len(parts) > 5 else parts)]
    return max((number for number in numbers if number is not None), default=None)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if number == number else None


def _numbers(values: Mapping[str, str], keys: tuple[str, ...]) -> list[float]:
    """The values of those keys that have a number."""
    return [number for key in keys if (number := _number(values.get(key))) is not None]


def _loss_of_function(variant: Variant, effect: Effect, sources: Sources) -> pvs1.Outcome | None:
    """Where PVS1's tree ends; None for a variant that is no null variant of a coding transcript."""
    term, transcript = pvs1.null_term(effect), effect.transcript
    if term is None or transcript is None or not transcript.coding:
        return None
    if term == "transcript_ablation":
        return pvs1.Outcome("very strong", "the transcript is deleted whole")
    spliced, change = sources.sequences.of(transcript), change_of(variant)
    if term in ("stop_gained", "frameshift_variant"):
        return pvs1.truncation(change, effect, spliced)
    if term != "start_lost":
        return pvs1.splice_site(change, spliced)
    others = []
    if sources.genes is not None:
        near = sources.genes.near(transcript.contig, transcript.start, transcript.end)
        others = [t for t in near if t.gene_id == transcript.gene_id and t.coding and t.id != transcript.id]
    count = None
    if names := sources.known.names("clinvar"):
        spans = pvs1.genomic_spans(transcript, spliced.frame_start + 3, pvs1.next_start(spliced))
        found = {
            allele.variant
            for name in names
            for start, end in sorted(spans)
            for allele in sources.known.within(name, variant.contig, start, end)
            if _pathogenic(allele.values, sources.settings.fewest_stars)
        }
        count = len(found)
    return pvs1.start_loss(spliced, others, count)
