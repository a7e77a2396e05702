"""Findings as the guide's Observations: variants, what they do, genotypes of genes, and what they mean for drugs."""

from __future__ import annotations

from collections.abc import Iterator

from careloop.genome.findings.events import gene_text
from careloop.genome.findings.fhir import codes
from careloop.genome.findings.fhir.elements import (
    Json,
    ReportSetting,
    coded,
    component,
    disclaimer,
    loinc,
)
from careloop.genome.findings.finding import VariantFinding
from careloop.genome.pharmacogenes.guidelines import Recommendation, read_guidelines
from careloop.genome.pharmacogenes.results import DefiningSite, GeneResult
from careloop.genome.variant import SPANNING, Variant

SUGGESTION = "Suggested by software from the ACMG/AMP evidence that it could check; not reviewed by a person."


def variant_observations(setting: ReportSetting, variant: VariantFinding) -> Iterator[Json]:
    """A variant of interest, its consequence, and its suggested significance."""
    name = f"{variant.gene}:{variant.place}"
    content = _assessed(variant.presence, variant.variant, variant.gene, setting.findings.origin.build)
    content["component"] += _named(variant)
    notes = [{"text": text} for text in (variant.reason, *variant.notes) if text]
    yield setting.observation("variant", {**content, "note": [*notes, disclaimer()]}, name=name)
    origin = {"derivedFrom": [setting.to("Observation", name)]}
    if variant.consequences:
        tbd = coded(codes.TO_BE_DETERMINED, ("molecular-consequence", "Molecular Consequence"))
        found = {"code": tbd, **origin, "component": [*_hgvs(variant), *map(_consequence, variant.consequences)]}
        yield setting.observation("molecular-consequence", found, name=f"{name}:consequence")
    if variant.significance:
        yield setting.observation("diagnostic-implication", _significance(variant) | origin, name=f"{name}:meaning")


def gene_observations(setting: ReportSetting, gene: GeneResult) -> Iterator[Json]:
    """The genotype of a gene, the variants it is derived from and the sites that are unclear."""
    defining = list(_site_observations(setting, gene))
    yield from defining
    yield from _unlisted_observations(setting, gene)
    genotype = {
        "code": loinc(codes.GENOTYPE),
        "valueCodeableConcept": {"text": f"{gene.gene} {gene_text(gene)}"},
        "component": [_gene(gene.gene)],
        **({"derivedFrom": [{"reference": f"urn:uuid:{each['id']}"} for each in defining]} if defining else {}),
        "note": [*({"text": text} for text in (*gene.reasons, *gene.caveats)), disclaimer()],
    }
    yield setting.observation("genotype", genotype, name=f"genotype:{gene.gene}")


def implication(setting: ReportSetting, rule: Recommendation) -> Json:
    """What a recommendation says of a drug, word for word, for the genotypes of its genes that were read here."""
    read = {gene.gene for gene in setting.findings.pgx.genes} if setting.findings.pgx else set()
    tbd = coded(codes.TO_BE_DETERMINED, ("therapeutic-implication", "Therapeutic Implication"))
    conclusion = coded(codes.TO_BE_DETERMINED, ("conclusion-string", "Conclusion Text"))
    results = zip(rule.genes, rule.results, strict=True)
    components = [component(tbd, valueCodeableConcept=_phenotype(gene, result)) for gene, result in results]
    components.append(component(codes.MEDICATION, valueCodeableConcept=_drug(rule.drug)))
    components.append(component(conclusion, valueString=rule.text))
    if rule.strength:
        level = {"text": f"CPIC: {rule.strength}"}
        components.append(component(codes.EVIDENCE_LEVEL, valueCodeableConcept=level))
    artifact = {"type": "citation", "label": rule.source, "citation": rule.citation}
    content = {
        "extension": [{"url": codes.RELATED_ARTIFACT, "valueRelatedArtifact": artifact}],
        "code": tbd,
        "derivedFrom": [setting.to("Observation", f"genotype:{gene}") for gene in rule.genes if gene in read],
        "component": components,
        "note": [disclaimer()],
    }
    return setting.observation("therapeutic-implication", content, name=f"drug:{rule.drug}:{'+'.join(rule.genes)}")


def recommendations(genes: tuple[GeneResult, ...]) -> list[Recommendation]:
    """The recommendations of all genes, those of two genes once."""
    return list(dict.fromkeys(rule for gene in genes for rule in gene.recommendations))


def _assessed(presence: str, variant: Variant, gene: str, build: str) -> Json:
    """Code, assessment and place of a variant."""
    return {
        "code": loinc(codes.VARIANT),
        "valueCodeableConcept": loinc(codes.ASSESSMENT[presence]),
        "component": [*([_gene(gene)] if gene else []), *_placed(variant, build)],
    }


def _placed(variant: Variant, build: str) -> Iterator[Json]:
    if build in codes.ASSEMBLIES:
        yield component(codes.ASSEMBLY, valueCodeableConcept=loinc(codes.ASSEMBLIES[build]))
    chromosome, accession = codes.chromosome_answer(variant.contig), codes.reference_accession(variant.contig, build)
    if chromosome:
        yield component(codes.CHROMOSOME, valueCodeableConcept=loinc(chromosome))
    if accession:
        yield component(codes.REFERENCE_SEQUENCE, valueCodeableConcept=coded(codes.REFSEQ, (accession, accession)))
    if variant.is_sequence:
        yield component(codes.REF_ALLELE, valueString=variant.ref)
        yield component(codes.ALT_ALLELE, valueString=variant.alt)
    yield component(codes.COORDINATES, valueCodeableConcept=loinc(codes.ONE_BASED))
    high = {} if len(variant.ref) == 1 else {"high": {"value": variant.end}}
    yield component(codes.START_END, valueRange={"low": {"value": variant.start + 1}, **high})
    if accession and variant.is_snv:
        name = f"{accession}:g.{variant.start + 1}{variant.ref}>{variant.alt}"
        yield component(codes.GENOMIC_HGVS, valueCodeableConcept=coded(codes.HGVS, (name, name)))


def _named(variant: VariantFinding) -> Iterator[Json]:
    """Names, zygosity, depth and other databases' identifiers of a variant of interest."""
    yield from _hgvs(variant)
    if variant.hgvs_g and not variant.variant.is_snv:
        name = variant.hgvs_g
        yield component(codes.GENOMIC_HGVS, valueCodeableConcept=coded(codes.HGVS, (name, name)))
    source = codes.SOURCES[variant.source_class]
    yield component(codes.SOURCE_CLASS, valueCodeableConcept=loinc(source))
    if variant.zygosity and variant.presence == "present":
        yield component(codes.ALLELIC_STATE, valueCodeableConcept=loinc(codes.ZYGOSITY[variant.zygosity]))
    if variant.allele_depth is not None:
        reads = {"value": variant.allele_depth, "unit": "reads", "system": codes.UCUM, "code": "{reads}"}
        yield component(codes.READ_DEPTH, valueQuantity=reads)
    for name in variant.known_as:
        system = codes.DBSNP if name.startswith("rs") else codes.CLINVAR
        yield component(codes.VARIATION_CODE, valueCodeableConcept=coded(system, (name, name)))


def _hgvs(variant: VariantFinding) -> Iterator[Json]:
    """The names on transcript and protein; one that does not say its reference sequence is no HGVS name."""
    for code, name in ((codes.CODING_HGVS, variant.hgvs_c), (codes.PROTEIN_HGVS, variant.hgvs_p)):
        if ":" in name:
            yield component(code, valueCodeableConcept=coded(codes.HGVS, (name, name)))


def _consequence(term: str) -> Json:
    feature = coded(codes.TO_BE_DETERMINED, ("feature-consequence", "Feature Consequence"))
    number = codes.SO_IDS.get(term)
    known = coded(codes.SEQUENCE_ONTOLOGY, (f"SO:{number:07d}", term)) if number else {"text": term}
    return component(feature, valueCodeableConcept=known)


def _significance(variant: VariantFinding) -> Json:
    tbd = coded(codes.TO_BE_DETERMINED, ("diagnostic-implication", "Diagnostic Implication"))
    conclusion = coded(codes.TO_BE_DETERMINED, ("conclusion-string", "Conclusion Text"))
    known = codes.SIGNIFICANCES.get(variant.significance)
    value = loinc(known) if known else {"text": variant.significance}
    components = [component(codes.SIGNIFICANCE, valueCodeableConcept=value)]
    flags = "; ".join(f"{each.flag}: {each.reason}" for each in variant.evidence)
    components += [component(conclusion, valueString=flags)] if flags else []
    return {"code": tbd, "component": components, "note": [{"text": SUGGESTION}, disclaimer()]}


def _site_observations(setting: ReportSetting, gene: GeneResult) -> Iterator[Json]:
    """The variants that were seen at defining positions, and what is unclear there; silence is no observation."""
    for site in gene.sites:
        if site.call.state == "absent" or (site.known and site.call.state == "reference"):
            continue
        for alt in _alternatives(site):
            variant = Variant(site.call.site.contig, site.call.site.start, site.call.site.ref, alt)
            presence = "present" if site.known else "no-call" if site.call.state == "no-call" else "indeterminate"
            content = _assessed(presence, variant, gene.gene, setting.findings.origin.build)
            content["component"] += _copies(site, alt)
            if site.name.startswith("rs"):
                known = coded(codes.DBSNP, (site.name, site.name))
                content["component"].append(component(codes.VARIATION_CODE, valueCodeableConcept=known))
            reason = site.reason or site.call.reason
            notes = [{"text": reason}] if reason else []
            yield setting.observation(
                "variant", {**content, "note": [*notes, disclaimer()]}, name=f"{gene.gene}:{variant}"
            )


def _unlisted_observations(setting: ReportSetting, gene: GeneResult) -> Iterator[Json]:
    """Variants inside a gene that its table does not know, so that the genotype leaves them out."""
    for each in gene.unlisted_variants:
        content = _assessed("present", each.variant, gene.gene, setting.findings.origin.build)
        filtered = ", and filtered in the file" if each.filtered else ""
        note = {"text": f"In no allele of the table that the genotype was read with{filtered}."}
        yield setting.observation(
            "variant", {**content, "note": [note, disclaimer()]}, name=f"{gene.gene}:{each.variant}"
        )


def _alternatives(site: DefiningSite) -> tuple[str, ...]:
    """The alternative alleles that were seen, or, where the site is not known, those that were looked for."""
    if not site.known:
        return site.call.site.alts
    found = (base for base in site.call.alleles if base not in (None, SPANNING, site.call.site.ref))
    return tuple(dict.fromkeys(str(base) for base in found))


def _copies(site: DefiningSite, alt: str) -> Iterator[Json]:
    alleles = site.call.alleles
    if site.known and alleles:
        state = "hemizygous" if len(alleles) == 1 else "homozygous" if set(alleles) == {alt} else "heterozygous"
        yield component(codes.ALLELIC_STATE, valueCodeableConcept=loinc(codes.ZYGOSITY[state]))


def _gene(symbol: str) -> Json:
    return component(codes.GENE_STUDIED, valueCodeableConcept=gene_concept(symbol))


def gene_concept(symbol: str) -> Json:
    """A gene by its HGNC id where careloop has it, else by its symbol alone."""
    number = codes.HGNC_IDS.get(symbol)
    return coded(codes.HGNC, (f"HGNC:{number}", symbol)) if number else {"text": symbol}


def _phenotype(gene: str, result: str) -> Json:
    bare = result.removeprefix(f"{gene} ")
    known = codes.PHENOTYPES.get(bare)
    return coded(codes.LOINC, known, text=f"{gene} {bare}") if known else {"text": f"{gene} {bare}"}


def _drug(name: str) -> Json:
    code = next((pair.rxnorm for pair in read_guidelines().pairs if pair.drug == name and pair.rxnorm), "")
    return coded(codes.RXNORM, (code, name)) if code else {"text": name}
