"""What a user must say before some ACMG/AMP criteria can be judged, and the thresholds of the others."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from careloop import InputError
from careloop.genome.annotate.acmg.criteria import Strength

# Intervals of Pejaver et al., Am J Hum Genet 2022;109:2163, table 2: (threshold, strength), the strongest first; a
# score at or over the first that it reaches is PP3, at or under is BP4.
CALIBRATED: dict[str, tuple[tuple[tuple[float, Strength], ...], tuple[tuple[float, Strength], ...]]] = {
    "REVEL": (
        ((0.932, "strong"), (0.773, "moderate"), (0.644, "supporting")),
        ((0.003, "very strong"), (0.016, "strong"), (0.183, "moderate"), (0.290, "supporting")),
    ),
    "BayesDel": (
        ((0.50, "strong"), (0.27, "moderate"), (0.13, "supporting")),
        ((-0.36, "moderate"), (-0.18, "supporting")),
    ),
}


@dataclass(frozen=True)
class MissenseScore:
    """A score of missense variants in a known file: PP3 and BP4 by a published calibration, or by thresholds given.

    `calibration` is `REVEL` or `BayesDel` (without allele frequency); else `pp3_from` and `bp4_to` are the thresholds
    of supporting evidence, of a score whose high values are damaging.
    """

    file: str
    key: str
    calibration: Literal["", "REVEL", "BayesDel"] = ""
    pp3_from: float | None = None
    bp4_to: float | None = None

    def __post_init__(self) -> None:
        given = self.pp3_from is not None and self.bp4_to is not None
        if self.calibration and self.calibration not in CALIBRATED:
            raise InputError(f"calibration of a score is one of {', '.join(CALIBRATED)}; got {self.calibration!r}")
        if bool(self.calibration) == given:
            raise InputError(f"the score {self.key} needs either a calibration or both thresholds, pp3_from and bp4_to")
        if given and not self.bp4_to < self.pp3_from:  # type: ignore[operator]
            raise InputError(f"the score {self.key} needs bp4_to below pp3_from")

    def strengths(self) -> tuple[tuple[tuple[float, Strength], ...], tuple[tuple[float, Strength], ...]]:
        """Thresholds of PP3 and of BP4 with their strengths, the strongest first."""
        if self.calibration:
            return CALIBRATED[self.calibration]
        assert self.pp3_from is not None
        assert self.bp4_to is not None
        return ((self.pp3_from, "supporting"),), ((self.bp4_to, "supporting"),)


@dataclass(frozen=True)
class AcmgSettings:
    """What the data cannot say.

    `loss_of_function_genes` are genes (name or identifier) in which loss of function is a known mechanism of disease:
    without them PVS1 is not judged. `relevant_transcripts` count as biologically relevant beside MANE and canonical
    ones. `rare_below` is the allele frequency under which PM2 holds (beside absence), at `rare_strength`: supporting by
    ClinGen (PM2 version 1.0, 2020), moderate in 2015. `common_above` is BA1's frequency of 2015. `expected_above`
    is the frequency above which a variant is too common for the disorder in question (BS1), which only the user knows.
    `fewest_alleles` must have been seen for BA1 and BS1. `repeats` is the name of a BED file among the known files.
    `fewest_stars` is the review status (0 to 4) that a ClinVar record needs. `splice_score` is a known file and its key
    of splice scores computed elsewhere (SpliceAI's INFO value or a number). Splice thresholds are those of Walker et
    al., Am J Hum Genet 2023;110:1046.
    """

    loss_of_function_genes: frozenset[str] = frozenset()
    relevant_transcripts: frozenset[str] = frozenset()
    rare_below: float = 1e-4
    rare_strength: Literal["supporting", "moderate"] = "supporting"
    common_above: float = 0.05
    expected_above: float | None = None
    fewest_alleles: int = 2000
    repeats: str = ""
    fewest_stars: int = 1
    score: MissenseScore | None = None
    splice_score: tuple[str, str] | None = None
    splice_from: float = 0.2
    splice_to: float = 0.1

    def __post_init__(self) -> None:
        shares = (self.rare_below, self.common_above, *([] if self.expected_above is None else [self.expected_above]))
        if not all(0 <= share <= 1 for share in shares):
            raise InputError(f"allele frequencies of ACMG settings lie between 0 and 1; got {shares}")
        if not 0 <= self.fewest_stars <= 4:
            raise InputError(f"fewest_stars is ClinVar's review status from 0 to 4; got {self.fewest_stars}")
        if not 0 <= self.splice_to < self.splice_from <= 1:
            raise InputError("splice thresholds are 0 <= splice_to < splice_from <= 1")


def read_settings(settings: Path | None, genes: Path | None = None) -> AcmgSettings:
    """Settings from a YAML file of the fields of `AcmgSettings`, and genes (one a line) whose loss causes disease.

    Raises:
        InputError: a file cannot be read, a field is unknown or given twice over, or a value is not one of its.
    """
    chosen = AcmgSettings() if settings is None else _checked(settings)
    if genes is None:
        return chosen
    if chosen.loss_of_function_genes:
        raise InputError(f"{settings} and {genes} both give genes whose loss causes disease; keep one")
    named = (line.strip() for line in _text(genes, "one gene a line").splitlines())
    return replace(chosen, loss_of_function_genes=frozenset(name for name in named if name))


def _checked(path: Path) -> AcmgSettings:
    import yaml
    from pydantic import TypeAdapter, ValidationError

    try:
        content: Any = yaml.safe_load(_text(path, "YAML of ACMG settings"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    known = [field.name for field in fields(AcmgSettings)]
    unknown = [] if not isinstance(content, dict) else sorted(str(key) for key in content if key not in known)
    if not isinstance(content, dict) or unknown:
        raise InputError(f"{path}: ACMG settings are {', '.join(known)}; got {', '.join(unknown) or 'no mapping'}")
    try:
        return TypeAdapter(AcmgSettings).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc'])) or 'settings'}: {first['msg']}") from None


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: no such file, or not text; give a file with {what}") from None
