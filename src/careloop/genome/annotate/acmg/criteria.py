"""The 28 criteria of ACMG/AMP 2015, their strengths and points, and flags as plain data.

Richards et al., Standards and guidelines for the interpretation of sequence variants, Genet Med 2015;17:405, tables 3
and 4. Points: Tavtigian et al., Hum Mutat 2020;41:1734, table 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Strength = Literal["stand-alone", "very strong", "strong", "moderate", "supporting"]
Classification = Literal["pathogenic", "likely pathogenic", "uncertain significance", "likely benign", "benign"]

POINTS: dict[Strength, int] = {"very strong": 8, "strong": 4, "moderate": 2, "supporting": 1, "stand-alone": 0}
STRENGTHS: dict[str, Strength] = {
    "PVS1": "very strong",
    **dict.fromkeys(("PS1", "PS2", "PS3", "PS4"), "strong"),
    **dict.fromkeys(("PM1", "PM2", "PM3", "PM4", "PM5", "PM6"), "moderate"),
    **dict.fromkeys(("PP1", "PP2", "PP3", "PP4", "PP5"), "supporting"),
    "BA1": "stand-alone",
    **dict.fromkeys(("BS1", "BS2", "BS3", "BS4"), "strong"),
    **dict.fromkeys(("BP1", "BP2", "BP3", "BP4", "BP5", "BP6", "BP7"), "supporting"),
}
CODES = tuple(STRENGTHS)

# What no file of variants, genes or scores can settle.
NEEDS_MORE = {
    "PS2": "a de novo variant needs both parents with confirmed relation, and a phenotype that fits",
    "PS3": "functional studies are not in the data",
    "PS4": "counts of affected people and controls are not in the data",
    "PM1": "hot spots and functional domains are not in the data",
    "PM3": "a pathogenic variant on the other chromosome and the disease's inheritance must be known",
    "PM6": "an assumed de novo variant needs the parents and a phenotype that fits",
    "PP1": "segregation in a family is not in the data",
    "PP2": "the gene's rate of benign missense variants is not in the data",
    "PP4": "the patient's phenotype is not looked at",
    "PP5": "never used: another's classification is no evidence of its own (Biesecker and Harrison 2018)",
    "BS2": "healthy adults with the variant and full penetrance must be known",
    "BS3": "functional studies are not in the data",
    "BS4": "segregation in a family is not in the data",
    "BP1": "whether only truncating variants of the gene cause disease must be known",
    "BP2": "the phase with a pathogenic variant and the disease's inheritance must be known",
    "BP5": "another molecular cause in this patient is not looked for",
    "BP6": "never used: another's classification is no evidence of its own (Biesecker and Harrison 2018)",
}


@dataclass(frozen=True)
class Flag:
    """One criterion that is met: at which strength, why in one sentence, and from which data."""

    code: str
    strength: Strength
    reason: str
    data: str

    @property
    def name(self) -> str:
        """The code, with its strength where that is not the criterion's own: `PM2_Supporting`."""
        if self.strength == STRENGTHS[self.code]:
            return self.code
        return f"{self.code}_{self.strength.title().replace(' ', '')}"

    @property
    def pathogenic(self) -> bool:
        """Whether it speaks for, not against, pathogenicity."""
        return self.code.startswith("P")

    @property
    def points(self) -> int:
        """Points of the flag, negative for benign ones; BA1 stands outside the points."""
        return POINTS[self.strength] if self.pathogenic else -POINTS[self.strength]
