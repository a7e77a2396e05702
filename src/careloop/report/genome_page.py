"""The page of one sample's genome: what it means for drugs, what is not known, and every position and read behind it.

One self-contained HTML file without scripts; it names the sample and the file, and no patient. What is not known stands
beside what is, and is never shown as normal. Recommendations are CPIC's, word for word.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import careloop
from careloop import InputError
from careloop.genome.findings.events import gene_text
from careloop.genome.findings.finding import PATHOGENIC, GenomeFindings, VariantFinding
from careloop.genome.pharmacogenes.guidelines import UNTESTED, Recommendation, read_guidelines
from careloop.genome.pharmacogenes.phenotypes import INDETERMINATE
from careloop.genome.pharmacogenes.results import DefiningSite, GeneResult, UnlistedVariant
from careloop.genome.variant import SPANNING, Variant
from careloop.report.image_montage import NOT_CLINICAL
from careloop.report.page_parts import Row, template

MOST_DIPLOTYPES = 4  # shown at once; the others are folded
MOST_PLACES = 12  # of what is not covered
LONGEST_NAME = 64  # characters of a variant's name in its heading
LONGEST_SHOWN, FIRST_SHOWN = 24, 12  # bases of an allele
ADVICE = {"block": "advises against", "ask": "test first", "caution": "change or watch", "info": "as usual"}
SUMMARY = {
    "block": "CPIC advises against",
    "ask": "CPIC wants a test before",
    "caution": "CPIC advises another drug, another dose or closer watching than usual for",
}
STATUS = {
    "called": "clear",
    "ambiguous": "several fit",
    "indeterminate": "not known",
    "unlisted": "not in the table",
}
SEEN = {
    "reference": "reference",
    "no-call": "no call",
    "absent": "not in the file",
    "mismatch": "other reference base",
    "spanned": "inside a deletion",
}
_ORDER = tuple(ADVICE)


@dataclass(frozen=True)
class DrugAdvice:
    """Drugs for which a guideline says the same, word for word, to the same results of genes."""

    drugs: tuple[str, ...]
    rule: Recommendation

    @property
    def who(self) -> str:
        """The results that lead to it: `CYP2C19 poor metabolizer`."""
        return " and ".join(map(_in_words, self.rule.genes, self.rule.results))


def _in_words(gene: str, result: str) -> str:
    bare = result.removeprefix(f"{gene} ").replace(" score ", ", activity score ")
    return f"{gene} {bare if bare.startswith('-') else bare.lower()}"


def write_genome_page(findings: GenomeFindings, path: Path, *, pictures: Mapping[str, str] | None = None) -> None:
    """Write `genome_page` as HTML in UTF-8 to `path`."""
    path.write_text(genome_page(findings, pictures=pictures), encoding="utf-8")


def genome_page(findings: GenomeFindings, *, pictures: Mapping[str, str] | None = None) -> str:
    """The page as HTML text.

    `pictures` are SVG texts of the reads behind a call, by the variant as text (`chr:pos:ref:alt`, position from 1); of
    variants of interest and of defining positions of genes. They are shown as images, so that nothing in them runs.

    Raises:
        InputError: a picture that is no SVG.
    """
    drawn = {place: _data_uri(svg) for place, svg in (pictures or {}).items()}
    genes = findings.pgx.genes if findings.pgx else ()
    advice = advice_of(genes)
    return template("genome_page.html.j2").render(
        not_clinical=NOT_CLINICAL,
        software=f"careloop {careloop.__version__}",
        simulated=findings.simulated,
        sample=findings.origin.sample,
        file=findings.origin.path.name,
        facts=_facts(findings),
        summary=_summary(advice),
        has_genes=findings.pgx is not None,
        has_variants=findings.variants is not None,
        unusual=[_advice(each) for each in advice if each.rule.severity != "info"],
        usual=[_advice(each) for each in advice if each.rule.severity == "info"],
        not_known=[_unknown(gene.gene, _why_unknown(gene)) for gene in genes if not gene.settled],
        refused=[
            _unknown(gene.gene, gene.reason, gene.test) for gene in (findings.pgx.refused if findings.pgx else ())
        ],
        caveats=findings.pgx.caveats if findings.pgx else (),
        genes=[_gene(gene, drawn) for gene in genes],
        variants=[_variant(each, drawn) for each in findings.variants or ()],
        harmful=sum(variant.significance in PATHOGENIC for variant in findings.variants or ()),
        not_covered=findings.coverage.not_covered[:MOST_PLACES],
        more_places=max(0, len(findings.coverage.not_covered) - MOST_PLACES),
    )


def advice_of(genes: Iterable[GeneResult]) -> list[DrugAdvice]:
    """Recommendations of all genes, the gravest first, drugs with the same words to the same results together."""

    def alike(rule: Recommendation) -> tuple[object, ...]:
        return _ORDER.index(rule.severity), rule.genes, rule.results, rule.text, rule.strength, rule.citation

    rules = sorted({rule for gene in genes for rule in gene.recommendations}, key=lambda rule: (alike(rule), rule.drug))
    groups = (list(group) for _, group in groupby(rules, key=alike))
    return [DrugAdvice(tuple(dict.fromkeys(rule.drug for rule in group)), group[0]) for group in groups]


def _summary(advice: list[DrugAdvice]) -> list[Row]:
    """Of each severity but the usual, the drugs by the genes that they depend on, each drug once."""
    rows = []
    for severity, words in SUMMARY.items():
        by_genes: dict[str, list[str]] = {}
        for each in advice:
            if each.rule.severity == severity:
                known = [
                    gene for gene, result in zip(each.rule.genes, each.rule.results, strict=True) if result != UNTESTED
                ]
                by_genes.setdefault(" and ".join(known), []).extend(each.drugs)
        if by_genes:
            drugs = [{"genes": genes, "drugs": ", ".join(sorted(set(names)))} for genes, names in by_genes.items()]
            rows.append({"severity": severity, "words": words, "drugs": drugs})
    return rows


def _advice(advice: DrugAdvice) -> Row:
    rule = advice.rule
    return {
        "drugs": ", ".join(advice.drugs),
        "severity": rule.severity,
        "says": ADVICE[rule.severity],
        "who": advice.who,
        "text": rule.text,
        "strength": rule.strength.lower().removesuffix(" recommendation"),
        "citation": rule.citation,
        "source": rule.source,
    }


def _facts(findings: GenomeFindings) -> list[tuple[str, str]]:
    origin, coverage = findings.origin, findings.coverage
    rows = [
        ("Assembly", origin.build),
        ("Called by", ", ".join(origin.callers) or "the file does not say"),
        ("Sampled", f"{origin.time:%Y-%m-%d}" if origin.time else "no date: a fact for life"),
        ("Looked at", coverage.described or "what the file holds"),
    ]
    if coverage.mean_depth is not None:
        rows.append(("Mean depth", f"{coverage.mean_depth:.0f} reads"))
    if coverage.covered_share is not None:
        rows.append(("Covered", f"{100 * coverage.covered_share:.1f} % of what was looked at"))
    versions = {**(findings.pgx.versions if findings.pgx else {}), **findings.tables}
    return rows + [(f"Table: {name}", version) for name, version in versions.items()]


def _unknown(gene: str, why: str, test: str = "") -> Row:
    """A gene that is not known, why, and for which drugs a guideline asks for it (or for one of its alleles)."""
    drugs = (pair.drug for pair in read_guidelines().pairs if pair.gene.partition("*")[0] == gene)
    return {"gene": gene, "why": why, "test": test, "drugs": ", ".join(sorted(set(drugs)))}


def _why_unknown(gene: GeneResult) -> str:
    if gene.reasons:
        return "; ".join(gene.reasons)
    if gene.unknown_sites:
        return f"{len(gene.unknown_sites)} of {len(gene.sites)} defining positions are not known"
    return "the diplotypes that fit lead to different phenotypes" if gene.status == "ambiguous" else STATUS[gene.status]


def _gene(gene: GeneResult, drawn: Mapping[str, str]) -> Row:
    shown = [str(each) for each in gene.diplotypes] if gene.diplotype_text else []
    possible = "" if shown else ", ".join(str(each) for each in gene.diplotypes)
    return {
        "name": gene.gene,
        "status": gene.status,
        "words": STATUS[gene.status],
        "settled": gene.settled,
        "diplotypes": shown[:MOST_DIPLOTYPES],
        "more": shown[MOST_DIPLOTYPES:],
        "unnamed": "" if shown else gene_text(gene),
        "possible": possible,
        "phenotype": gene.phenotype if gene.settled else "not known",
        "possible_phenotypes": []
        if gene.settled
        else [each for each in gene.possible_phenotypes if each != INDETERMINATE],
        "score": "" if gene.activity_score is None else f"{gene.activity_score:g}",
        "known_sites": len(gene.sites) - len(gene.unknown_sites),
        "sites": [_site(site, drawn) for site in sorted(gene.sites, key=lambda site: site.known)],
        "unlisted": [_unlisted(each) for each in gene.unlisted_variants],
        "notes": [*gene.reasons, *gene.caveats],
    }


def _site(site: DefiningSite, drawn: Mapping[str, str]) -> Row:
    call = site.call
    where = call.site
    alts = [allele for allele in call.alleles if allele not in (None, SPANNING, where.ref)]
    wanted = dict.fromkeys([*(str(alt) for alt in alts), *where.alts])
    pictures = (drawn.get(str(Variant(where.contig, where.start, where.ref, alt))) for alt in wanted)
    return {
        "name": site.name,
        "place": f"{where.contig}:{where.start + 1:,}",
        "change": f"{_bases(where.ref)} > {' or '.join(map(_bases, where.alts))}" if where.alts else where.ref,
        "known": site.known,
        "state": call.state,
        "seen": _seen(site),
        "depth": "" if call.depth is None else call.depth,
        "reason": site.reason or call.reason,
        "picture": next((picture for picture in pictures if picture), ""),
    }


def _seen(site: DefiningSite) -> str:
    alleles = site.call.alleles
    if site.call.state in ("genotype", "spanned") and alleles:
        between = "|" if site.call.phased else "/"
        bases = between.join("?" if allele is None else _bases(allele) for allele in alleles)
        return bases if site.call.state == "genotype" else f"{bases} ({SEEN['spanned']})"
    return SEEN.get(site.call.state, site.call.state)


def _unlisted(each: UnlistedVariant) -> Row:
    v = each.variant
    return {
        "place": f"{v.contig}:{v.start + 1:,} {_bases(v.ref)} > {_bases(v.alt)}",
        "where": "in or beside an exon" if each.in_exon else "in an intron",
        "filtered": each.filtered,
    }


def _variant(variant: VariantFinding, drawn: Mapping[str, str]) -> Row:
    v = variant.variant
    reads = "" if variant.depth is None else f"{variant.depth} reads"
    if reads and variant.allele_depth is not None:
        reads = f"{variant.allele_depth} of {reads} have it"
    quality = "" if variant.quality is None else f"quality {variant.quality:.0f}"
    filters = f"filtered by the caller: {', '.join(variant.filters)}" if variant.filters else ""
    return {
        "gene": variant.gene or "outside of genes",
        "name": _short(variant.hgvs_p or variant.hgvs_c or variant.hgvs_g or variant.place),
        "hgvs": [name for name in (variant.hgvs_c, variant.hgvs_p, variant.hgvs_g) if name],
        "place": f"{v.contig}:{v.start + 1:,} {_bases(v.ref)} > {_bases(v.alt)}",
        "known": variant.presence == "present",
        "reason": variant.reason,
        "zygosity": variant.zygosity or "genotype not known",
        "somatic": variant.source_class == "somatic",
        "consequence": ", ".join(term.replace("_", " ") for term in variant.consequences)
        or "no consequence was computed",
        "significance": variant.significance,
        "harmful": variant.significance in PATHOGENIC,
        "evidence": variant.evidence,
        "known_as": ", ".join(variant.known_as),
        "facts": ", ".join(part for part in (reads, quality, filters) if part),
        "notes": variant.notes,
        "picture": drawn.get(str(v), ""),
    }


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _bases(allele: str) -> str:
    """An allele as it is shown: a long one by its first bases and its length."""
    return allele if len(allele) <= LONGEST_SHOWN else f"{allele[:FIRST_SHOWN]}… ({len(allele):,} bases)"


def _data_uri(svg: str) -> str:
    if not svg.lstrip().startswith("<svg"):
        raise InputError("pictures of reads must be SVG texts that begin with <svg; give them as such")
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
