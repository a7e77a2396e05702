"""Which column of a file of summary statistics is what, by the names that programs and consortia give them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from careloop import InputError

# One row a variant and test. `beta` is for one more copy of `effect_allele` (log odds where the trait is case/control),
# positions count from 1, chromosomes are 1 to 22, X, Y, MT.
STATISTICS = pl.Schema(
    {
        "chromosome": pl.String(),
        "base_pair_location": pl.Int64(),
        "effect_allele": pl.String(),
        "other_allele": pl.String(),
        "beta": pl.Float64(),
        "standard_error": pl.Float64(),
        "effect_allele_frequency": pl.Float64(),
        "p_value": pl.Float64(),
        "neg_log_10_p_value": pl.Float64(),
        "variant_id": pl.String(),
        "n": pl.Int64(),
        "test": pl.String(),
        "error": pl.String(),
    }
)
# Names in lower case without signs and spaces, the most trusted first: harmonised columns of the GWAS Catalog (hm_*),
# GWAS-SSF, then PLINK, REGENIE, BOLT-LMM, SAIGE, fastGWA, COJO, METAL, LDSC, FinnGen, Neale lab, Psychiatric Genomics.
NAMES: dict[str, tuple[str, ...]] = {
    "chromosome": ("hmchrom", "chromosome", "chrom", "chr"),
    "base_pair_location": ("hmpos", "basepairlocation", "genpos", "pos", "position", "bp", "basepair"),
    "effect_allele": (
        *("hmeffectallele", "effectallele", "a1", "ea", "allele1", "testedallele", "codedallele", "codingallele"),
        *("riskallele", "alt"),
    ),
    "other_allele": (
        *("hmotherallele", "otherallele", "omitted", "ax", "a2", "nea", "noneffectallele", "allele0", "a0", "allele2"),
        *("noncodedallele", "noncodingallele", "referenceallele", "ref"),
    ),
    "beta": ("hmbeta", "beta", "b", "logor", "logoddsratio", "effect", "effectsize", "es", "estimate"),
    "odds_ratio": ("hmoddsratio", "oddsratio", "or"),
    "hazard_ratio": ("hazardratio", "hr"),
    "standard_error": ("standarderror", "se", "stderr", "sebeta", "logorse", "betase", "standarderrorofbeta"),
    "z": ("z", "zscore", "zstat", "tstat", "t"),
    "effect_allele_frequency": (
        *("hmeffectallelefrequency", "effectallelefrequency", "eaf", "a1freq", "af1", "freq1", "a1frq", "afalt"),
        *("effectallelefreq", "freqa1", "freq", "af", "altfreqs"),
    ),
    "p_value": ("pvalue", "p", "pval", "pboltlmm", "pboltlmminf", "gcpvalue"),
    "neg_log_10_p_value": ("neglog10pvalue", "log10p", "mlog10p", "mlogp", "neglog10p", "lp"),
    "rsid": ("hmrsid", "rsid", "rsids", "rs"),
    "variant_id": ("variantid", "id", "snp", "snpid", "markername", "markerid", "marker", "rsnumber"),
    "place": ("variant", "hmvariantid"),
    "n": ("n", "obsct", "samplesize", "totalsamplesize", "ntotal", "totaln", "nmiss", "ncompletesamples"),
    "effective_n": ("neff", "effectiven", "effectivesamplesize"),
    "n_cases": ("ncases", "ncase", "nca", "cases"),
    "n_controls": ("ncontrols", "ncontrol", "nco", "controls"),
    "test": ("test",),
    "error": ("error", "errcode"),
}
ANY_OF = {
    "an effect allele": ("effect_allele",),
    "an effect or a P value": ("beta", "odds_ratio", "hazard_ratio", "z", "p_value", "neg_log_10_p_value"),
    "an id or a position": ("variant_id", "rsid", "place", "base_pair_location"),
}


@dataclass(frozen=True)
class Recognised:
    """`columns` {what it is: the file's name for it}, and what was read into names, in sentences."""

    columns: Mapping[str, str]
    layout: str
    notes: tuple[str, ...]

    @property
    def said(self) -> str:
        """What was recognised, in one line."""
        named = (ours if ours == theirs else f"{ours} = {theirs}" for ours, theirs in self.columns.items())
        return f"{self.layout}: {', '.join(named)}"


def recognise(header: Sequence[str], *, where: str) -> Recognised:
    """Tell the columns of a file of summary statistics by their names.

    `a1`, with `ref` and `alt` beside it, stands in PLINK 2's .glm files for the tested one of the two; `reference` and
    `alternative` are then among the columns.

    Raises:
        InputError: no column is known to be the effect allele, an effect or P value, or an id or position.
    """
    plain: dict[str, str] = {}
    for name in header:
        plain.setdefault(_plain(name), name)
    columns = {ours: plain[found] for ours, names in NAMES.items() if (found := _first(names, plain))}
    layout, notes = _layout(plain)
    if layout == "PLINK 2" and "omitted" not in plain:
        columns |= {"reference": plain["ref"], "alternative": plain["alt"]}
        columns.pop("other_allele")
    elif layout == "SAIGE":
        columns |= {"effect_allele": plain["allele2"], "other_allele": plain["allele1"]}
        columns |= {"effect_allele_frequency": plain["afallele2"]}
    elif layout == "Neale lab":  # the variant's name holds REF and ALT, and `minor_allele` is not the tested one
        columns = {ours: theirs for ours, theirs in columns.items() if not ours.endswith("_allele")}
    missing = [words for words, any_of in ANY_OF.items() if not set(any_of) & set(columns)]
    if missing and layout != "Neale lab":
        raise InputError(
            f"{where}: summary statistics need {', '.join(missing)}; none of the columns {', '.join(header[:30])} is "
            "known as that; name columns as GWAS-SSF does (effect_allele, beta, p_value, variant_id ...)"
        )
    return Recognised(columns, layout, notes)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _first(names: Sequence[str], plain: Mapping[str, str]) -> str | None:
    return next((name for name in names if name in plain), None)


def _layout(plain: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The program or standard that names columns like this, and what is taken from that."""
    if "basepairlocation" in plain and "effectallele" in plain:
        return "GWAS-SSF", ()
    if "genpos" in plain and "allele1" in plain:
        return "REGENIE", ("the effect allele is ALLELE1, as REGENIE writes",)
    if "obsct" in plain and "a1" in plain and {"ref", "alt"} <= set(plain):
        return "PLINK 2", ("the effect allele is A1, as PLINK 2 writes",)
    if "afallele2" in plain and "allele1" in plain:
        return "SAIGE", ("the effect allele is Allele2, as SAIGE writes",)
    if "variant" in plain and "minorallele" in plain:
        return "Neale lab", ("the effect allele is ALT of the variant's name, as the Neale lab writes",)
    if "a1" in plain:
        return "common names", ("the effect allele is taken to be A1, as in PLINK and LDSC",)
    if "allele1" in plain:
        return "common names", ("the effect allele is taken to be the first allele, as in METAL and BOLT-LMM",)
    if _first(NAMES["effect_allele"], plain) == "alt":
        return "common names", ("the effect allele is taken to be ALT, as FinnGen writes",)
    return "common names", ()
