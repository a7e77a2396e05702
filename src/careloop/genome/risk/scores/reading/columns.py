"""Which column of a score file is what: the PGS Catalog's names, and those that other programs use."""

from __future__ import annotations

from collections.abc import Sequence

NAMES: dict[str, tuple[str, ...]] = {
    "variant_id": ("rsid", "variant_id", "snp", "id", "snpid", "snp_id", "marker", "markername", "varid", "variant"),
    "chromosome": ("chr_name", "chr", "chrom", "#chrom", "chromosome"),
    "position": ("chr_position", "pos", "bp", "position", "base_pair_location"),
    "effect_allele": ("effect_allele", "a1", "ea", "allele1", "effectallele", "alt", "allele"),
    "other_allele": ("other_allele", "a2", "nea", "oa", "allele2", "non_effect_allele", "reference_allele", "ref"),
    "weight": ("effect_weight", "weight", "beta", "effect", "score", "b"),
    "effect_allele_frequency": ("allelefrequency_effect", "effect_allele_frequency", "eaf", "a1_freq", "freq"),
    "hm_variant_id": ("hm_rsid",),
    "hm_chromosome": ("hm_chr",),
    "hm_position": ("hm_pos",),
    "inferred_other_allele": ("hm_inferotherallele",),
    "is_dominant": ("is_dominant",),
    "is_recessive": ("is_recessive",),
    "is_interaction": ("is_interaction",),
    "is_haplotype": ("is_haplotype",),
    "is_diplotype": ("is_diplotype",),
    "weight_0": ("dosage_0_weight",),
    "weight_1": ("dosage_1_weight",),
    "weight_2": ("dosage_2_weight",),
}
WITHOUT_HEADER = ("variant_id", "effect_allele", "weight")  # what plink2 --score takes by default


def recognise(columns: Sequence[str]) -> dict[str, str]:
    """{our name: the file's name} of the columns that are known, the first of `NAMES` winning."""
    plain = {name.strip().lower(): name for name in reversed(columns)}
    found = {ours: next((plain[name] for name in names if name in plain), None) for ours, names in NAMES.items()}
    return {ours: theirs for ours, theirs in found.items() if theirs is not None}


def has_no_header(first: Sequence[str]) -> bool:
    """Whether a first line is data as plink2 takes it: an id, an allele and a number."""
    if len(first) < len(WITHOUT_HEADER) or "effect_allele" in recognise(first):
        return False
    try:
        float(first[2])
    except ValueError:
        return False
    return True
