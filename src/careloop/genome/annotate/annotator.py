"""A variant with all that is said of it, and the object that says it, opened once for a whole file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from careloop.genome.annotate.acmg.assess import Assessment, assess
from careloop.genome.annotate.acmg.evidence import Sources, look_up
from careloop.genome.annotate.acmg.settings import AcmgSettings
from careloop.genome.annotate.coding import SplicedSequences
from careloop.genome.annotate.effect import Effect
from careloop.genome.annotate.effects import change_of, effects_of, picked
from careloop.genome.annotate.hgvs_dna import genomic_name
from careloop.genome.annotate.known.files import open_known
from careloop.genome.annotate.known.request import KnownFile
from careloop.genome.annotate.severity import rank
from careloop.genome.annotate.splice import open_splice_model
from careloop.genome.annotate.transcripts import Genes
from careloop.genome.files.contigs import MITOCHONDRION, canonical_contig
from careloop.genome.files.reference import Reference
from careloop.genome.variant import Record, Variant
from careloop.genome.variants.sequence import ContigWindow

_OLD_MITOCHONDRION = 16_571  # bases of hg19's chrM, another sequence than that of all later references


@dataclass(frozen=True)
class AnnotateOptions:
    """What is looked up beside consequences and names.

    `known` are the user's files (ClinVar, gnomAD, any). `sample` is whose genotype the findings table has, None for all
    samples of the file. `table` is where findings are written (`.csv` or `.parquet`), None nowhere; it has the variants
    with one of `impacts`, and those suggested to be (likely) pathogenic. `splice_model` is an ONNX file.
    """

    known: tuple[KnownFile, ...] = ()
    acmg: AcmgSettings = field(default_factory=AcmgSettings)
    splice_model: Path | None = None
    sample: str | None = None
    table: Path | None = None
    impacts: tuple[str, ...] = ("HIGH", "MODERATE")


@dataclass(frozen=True)
class AnnotatedVariant:
    """One alternative allele, normalised, with its effects.

    `effects` are those on all transcripts, the most severe first; `picked` one for each gene. `known` is {file: {key:
    value}}. `assessment` is that of `first`, None for a variant that lies in no transcript.
    """

    record: Record
    effects: tuple[Effect, ...]
    picked: tuple[Effect, ...]
    hgvs_g: str
    known: Mapping[str, Mapping[str, str]]
    assessment: Assessment | None = None

    @property
    def variant(self) -> Variant:
        """The allele."""
        return self.record.variants[0]

    @cached_property
    def first(self) -> Effect:
        """The most severe of the picked effects."""
        return min(self.picked, key=lambda effect: rank(effect.terms[0]))


class Annotator:
    """Genes, reference and known files of one run; records are given in the order of their file."""

    def __init__(self, reference: Reference, genes: Genes, options: AnnotateOptions) -> None:
        self.known = open_known(options.known, reference)
        self._reference, self._genes, self._settings = reference, genes, options.acmg
        self._sequences = SplicedSequences(reference)
        splice = open_splice_model(options.splice_model, reference) if options.splice_model else None
        self._sources = Sources(self.known, self._sequences, options.acmg, splice, genes)
        self._window = ContigWindow(reference, "", 0)

    def annotated(self, record: Record) -> AnnotatedVariant | None:
        """A record of one alternative allele with its effects; None where it is not written in bases.

        None as well on a contig that the reference does not have, and on hg19's mitochondrion, which gene files and
        known files do not describe.
        """
        variants = record.variants
        name = self._reference.name_of(record.contig)
        if len(variants) != 1 or not variants[0].is_sequence or name is None:
            return None
        if canonical_contig(name) == MITOCHONDRION and self._reference.contigs[name] == _OLD_MITOCHONDRION:
            return None
        variant = variants[0]
        fetch = self._window_of(record.contig).fetch
        effects = effects_of(variant, self._genes, self._sequences, fetch)
        hgvs_g = genomic_name(change_of(variant), record.contig, fetch, build=self._reference.build)
        found = AnnotatedVariant(record, effects, picked(effects), hgvs_g, self.known.matches(variant))
        return self._assessed(found, variant)

    def _window_of(self, contig: str) -> ContigWindow:
        if self._window.contig != contig:
            name = self._reference.name_of(contig)
            self._window = ContigWindow(self._reference, contig, self._reference.contigs[name or contig])
        return self._window

    def _assessed(self, found: AnnotatedVariant, variant: Variant) -> AnnotatedVariant:
        effect = found.first
        if effect.transcript is None or effect.distance is not None:
            return found
        evidence = look_up(variant, effect, self._sources)
        return replace(found, assessment=assess(effect, evidence, self._settings))
