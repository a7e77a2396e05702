"""The 28 criteria of ACMG/AMP 2015 judged for one variant's effect: met, not met, or not assessed, each with why.

A suggestion for a geneticist, never a classification: criteria that need a phenotype, a family or the literature are
not assessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from careloop.genome.annotate.acmg.combining import by_points, by_rules, points
from careloop.genome.annotate.acmg.criteria import CODES, NEEDS_MORE, Classification, Flag, Strength
from careloop.genome.annotate.acmg.evidence import Evidence
from careloop.genome.annotate.acmg.loss_of_function import null_term
from careloop.genome.annotate.acmg.settings import AcmgSettings
from careloop.genome.annotate.effect import Effect

_IN_FRAME = ("inframe_insertion", "inframe_deletion")
_NO_FREQUENCY = "no gnomAD file is given"


@dataclass(frozen=True)
class NotMet:
    """The criterion was judged and does not hold."""

    reason: str


@dataclass(frozen=True)
class NotAssessed:
    """The data do not suffice to judge the criterion."""

    reason: str


Judgement = Flag | NotMet | NotAssessed


@dataclass(frozen=True)
class Assessment:
    """Every criterion with its outcome; each of the 28 codes is in exactly one of the first three."""

    flags: tuple[Flag, ...]
    not_met: dict[str, str]
    not_assessed: dict[str, str]

    @property
    def points(self) -> int:
        """The sum of the flags' points."""
        return points(self.flags)

    @property
    def by_rules(self) -> Classification:
        """The class by the rules of 2015."""
        return by_rules(self.flags)

    @property
    def by_points(self) -> Classification:
        """The class by points."""
        return by_points(self.flags)

    @property
    def suggestion(self) -> str:
        """Both classes in words."""
        told = f"suggested: {self.by_rules} by the rules of 2015, {self.by_points} by points ({self.points})"
        return f"{told}; needs a geneticist"


def assess(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Assessment:
    """Judge all criteria for an allele's effect on one transcript."""
    found = {code: _judge(code, effect, evidence, settings) for code in CODES}
    return Assessment(
        tuple(one for one in found.values() if isinstance(one, Flag)),
        {code: one.reason for code, one in found.items() if isinstance(one, NotMet)},
        {code: one.reason for code, one in found.items() if isinstance(one, NotAssessed)},
    )


def _judge(code: str, effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    if code in NEEDS_MORE:
        return NotAssessed(NEEDS_MORE[code])
    return _JUDGES[code](effect, evidence, settings)


def _pvs1(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    transcript, outcome = effect.transcript, evidence.loss_of_function
    if null_term(effect) is None or transcript is None or outcome is None:
        return NotMet("not a null variant of a coding transcript")
    if outcome.strength is None:
        return NotMet(outcome.reason) if outcome.followed else NotAssessed(outcome.reason)
    flag = Flag("PVS1", outcome.strength, f"{effect.terms[0]}: {outcome.reason}", "reference and gene file")
    would = f"it would be {flag.name}, as {outcome.reason}"
    gene = transcript.gene_name or transcript.gene_id
    if not settings.loss_of_function_genes:
        return NotAssessed(f"genes where loss of function causes disease are not given; in one of them {would}")
    if not {transcript.gene_name, transcript.gene_id} & settings.loss_of_function_genes:
        return NotMet(f"{gene} is not among the genes given where loss of function causes disease")
    if not (transcript.mane or transcript.canonical or transcript.id in settings.relevant_transcripts):
        return NotAssessed(f"{transcript.id} is not marked as relevant (MANE, canonical); if it is, {would}")
    return flag


def _ps1(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    return _same_residue("PS1", effect, evidence)


def _pm5(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    return _same_residue("PM5", effect, evidence)


def _same_residue(code: str, effect: Effect, evidence: Evidence) -> Judgement:
    """PS1: another base change to the same residue is known; PM5: a change of the same residue to another one."""
    if "missense_variant" not in effect.terms or len(effect.ref_protein) != 1 or len(effect.alt_protein) != 1:
        return NotMet("not a missense variant of one residue")
    if evidence.residues is None:
        return NotAssessed("no ClinVar file is given")
    same = code == "PS1"
    for known in evidence.residues:
        if (known.alt_residue == effect.alt_protein) == same:
            told = "the same change of the residue" if same else "another change of the residue"
            strength: Strength = "strong" if same else "moderate"
            change = f"{effect.ref_protein}{effect.protein_start}{known.alt_residue}"
            reason = f"{told} ({change}, by {known.variant}) is classified pathogenic"
            return Flag(code, strength, reason, f"{known.file} {known.identifier}".strip())
    return NotMet("no other pathogenic missense variant of the residue is known in the file")


def _pm2(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    frequency = evidence.frequency
    if frequency is None:
        return NotAssessed(_NO_FREQUENCY)
    if frequency.absent:
        reason = f"absent from {frequency.files}, which has records within 100 bases"
        return Flag("PM2", settings.rare_strength, reason, frequency.files)
    if frequency.highest is None or _untrusted(evidence, settings):
        return NotAssessed(_untrusted(evidence, settings))
    if frequency.highest < settings.rare_below:
        reason = f"the highest allele frequency is {frequency.highest:.3g}, under {settings.rare_below:g}"
        return Flag("PM2", settings.rare_strength, reason, frequency.files)
    return NotMet(f"the highest allele frequency in {frequency.files} is {frequency.highest:.3g}")


def _untrusted(evidence: Evidence, settings: AcmgSettings) -> str:
    """Why a population file's frequency cannot be used; empty where it can."""
    frequency = evidence.frequency
    if frequency is None:
        return _NO_FREQUENCY
    if not frequency.trusted:
        return f"the record in {frequency.files} failed a filter"
    if frequency.highest is None:
        return f"{frequency.files} has no record near the variant, or no frequency of it"
    if frequency.alleles is not None and frequency.alleles < settings.fewest_alleles:
        return f"only {frequency.alleles} alleles were seen in {frequency.files}"
    return ""


def _ba1(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    return _common("BA1", "stand-alone", settings.common_above, evidence, settings)


def _bs1(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    if settings.expected_above is None:
        return NotAssessed("the highest frequency that the disorder allows (expected_above) is not given")
    ba1 = _common("BA1", "stand-alone", settings.common_above, evidence, settings)
    if isinstance(ba1, Flag):
        return NotMet("the frequency is BA1's already")
    return _common("BS1", "strong", settings.expected_above, evidence, settings)


def _common(code: str, strength: Strength, above: float, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    frequency = evidence.frequency
    if frequency is not None and frequency.absent:
        return NotMet(f"absent from {frequency.files}")
    if frequency is None or frequency.highest is None or _untrusted(evidence, settings):
        return NotAssessed(_untrusted(evidence, settings))
    share = frequency.highest if frequency.filtering is None else frequency.filtering
    kind = "highest" if frequency.filtering is None else "filtering"
    if share > above:
        reason = f"the {kind} allele frequency is {share:.3g}, over {above:g}"
        return Flag(code, strength, reason, frequency.files)
    return NotMet(f"the {kind} allele frequency in {frequency.files} is {share:.3g}")


def _pm4(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    if "stop_lost" in effect.terms:
        return Flag("PM4", "moderate", "the stop codon is lost, so that the protein becomes longer", "gene file")
    if not set(_IN_FRAME) & set(effect.terms) or null_term(effect):
        return NotMet("the protein's length is not changed in frame")
    if evidence.in_repeat is None:
        return NotAssessed("repeats (a BED file among the known files) are not given")
    if evidence.in_repeat:
        return NotMet("the change in frame lies in a repeat")
    return Flag("PM4", "moderate", f"{effect.terms[0]} outside the repeats given", f"gene file, {settings.repeats}")


def _bp3(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    if not set(_IN_FRAME) & set(effect.terms) or null_term(effect):
        return NotMet("the protein's length is not changed in frame")
    if evidence.in_repeat is None:
        return NotAssessed("repeats (a BED file among the known files) are not given")
    if not evidence.in_repeat:
        return NotMet("the change in frame lies in no repeat")
    reason = f"{effect.terms[0]} in a repeat; whether the region has a known function was not looked at"
    return Flag("BP3", "supporting", reason, f"gene file, {settings.repeats}")


def _pp3(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    if null_term(effect):
        return NotMet("not used for a null variant, which PVS1 judges")
    reached, _ = _score_strengths(effect, evidence, settings)
    if reached:
        assert settings.score is not None
        reason = f"{settings.score.key} is {evidence.score:g}, in the damaging range"
        return Flag("PP3", reached, reason, settings.score.file)
    if evidence.splice_delta is not None and evidence.splice_delta >= settings.splice_from:
        reason = f"a splice site's score changes by {evidence.splice_delta:.2f}, at least {settings.splice_from:g}"
        return Flag("PP3", "supporting", reason, "splice model")
    return _no_score(effect, evidence) or NotMet("no score is in the damaging range")


def _bp4(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    if null_term(effect):
        return NotMet("not used for a null variant, which PVS1 judges")
    delta = evidence.splice_delta
    if delta is not None and delta > settings.splice_to:
        return NotMet(f"a splice site's score changes by {delta:.2f}")
    if "missense_variant" in effect.terms:
        _, reached = _score_strengths(effect, evidence, settings)
        if reached:
            assert settings.score is not None
            reason = f"{settings.score.key} is {evidence.score:g}, in the benign range"
            return Flag("BP4", reached, reason, settings.score.file)
        return _no_score(effect, evidence) or NotMet("no score is in the benign range")
    if delta is None:
        return NotAssessed("no splice score of the variant is given")
    if set(_IN_FRAME) & set(effect.terms) or "stop_lost" in effect.terms:
        return NotAssessed("no score of protein changes other than missense is given")
    reason = f"no splice site's score changes by more than {settings.splice_to:g}"
    return Flag("BP4", "supporting", reason, "splice model")


def _score_strengths(
    effect: Effect, evidence: Evidence, settings: AcmgSettings
) -> tuple[Strength | None, Strength | None]:
    """The strengths that the missense score reaches for PP3 and for BP4, None where it reaches none."""
    if settings.score is None or evidence.score is None or "missense_variant" not in effect.terms:
        return None, None
    over, under = settings.score.strengths()
    damaging = next((strength for limit, strength in over if evidence.score >= limit), None)
    return damaging, next((strength for limit, strength in under if evidence.score <= limit), None)


def _no_score(effect: Effect, evidence: Evidence) -> NotAssessed | None:
    if evidence.score is None and (evidence.splice_delta is None or "missense_variant" in effect.terms):
        return NotAssessed("no score of the variant is given")
    return None


def _bp7(effect: Effect, evidence: Evidence, settings: AcmgSettings) -> Judgement:
    if effect.terms[0] != "synonymous_variant":
        return NotMet("not a synonymous variant away from splice sites")
    delta = evidence.splice_delta
    if delta is None:
        return NotAssessed("synonymous, but no splice score of the variant is given")
    if delta > settings.splice_to:
        return NotMet(f"synonymous, but a splice site's score changes by {delta:.2f}")
    told = f"synonymous, and no splice site's score changes by more than {settings.splice_to:g}"
    reason = f"{told}; conservation of the base was not looked at"
    return Flag("BP7", "supporting", reason, "gene file, splice model")


_JUDGES: dict[str, Callable[[Effect, Evidence, AcmgSettings], Judgement]] = {
    "PVS1": _pvs1,
    "PS1": _ps1,
    "PM2": _pm2,
    "PM4": _pm4,
    "PM5": _pm5,
    "PP3": _pp3,
    "BA1": _ba1,
    "BS1": _bs1,
    "BP3": _bp3,
    "BP4": _bp4,
    "BP7": _bp7,
}
