"""Matching: planted flips, strand swaps, ambiguous sites and absent ids are found, counted, and scored as planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.risk.scores import matching
from careloop.genome.risk.scores.matching import MatchOptions, match
from careloop.genome.risk.scores.pgs_file import ScoreFile, read_pgs
from careloop.genome.risk.scores.placing import fitting
from careloop.genome.risk.scores.score import ScoreOptions, score

OTHER = {"A": "T", "C": "G", "G": "C", "T": "A"}
PAIRS = [("A", "C"), ("A", "G"), ("C", "A"), ("C", "T"), ("G", "A"), ("G", "T"), ("T", "C"), ("T", "G")]
UNCLEAR = [("A", "T"), ("T", "A"), ("C", "G"), ("G", "C")]
PEOPLE = 80


def variants_table(pairs: list[tuple[str, str]], **changed: list[object]) -> pl.DataFrame:
    numbers = range(len(pairs))
    columns = {
        "contig": ["1"] * len(pairs),
        "position": [100 * (number + 1) for number in numbers],
        "variant_id": [f"rs{number}" for number in numbers],
        "ref": [pair[0] for pair in pairs],
        "alt": [pair[1] for pair in pairs],
    }
    return pl.DataFrame({**columns, **changed})


def people(count: int = PEOPLE) -> pl.DataFrame:
    nobody = pl.Series([None] * count, dtype=pl.String)
    return pl.DataFrame(
        {
            "sample_id": [f"P{number}" for number in range(count)],
            "family_id": nobody,
            "father_id": nobody,
            "mother_id": nobody,
            "sex": ["female"] * count,
        }
    )


def score_file(tmp_path: Path, rows: list[dict[str, object]], build: str | None = None, name: str = "S") -> ScoreFile:
    path = tmp_path / f"{name}.txt"
    head = f"#pgs_id={name}\n" + (f"#genome_build={build}\n" if build else "")
    path.write_text(head + pl.DataFrame(rows, infer_schema_length=None).write_csv(separator="\t"))
    return read_pgs(path)


def row(variants: pl.DataFrame, at: int, weight: float, **changed: object) -> dict[str, object]:
    """A row of a score whose effect allele is the variant's alt."""
    one = variants.row(at, named=True)
    names = {"rsID": one["variant_id"], "chr_name": one["contig"], "chr_position": one["position"]}
    return {**names, "effect_allele": one["alt"], "other_allele": one["ref"], "effect_weight": weight, **changed}


@settings(deadline=None, max_examples=15, derandomize=True)
@given(seed=st.integers(0, 10_000), way=st.sampled_from(["drop", "keep", "frequency"]))
def test_planted_changes_are_counted_and_scored(
    seed: int, way: matching.Ambiguous, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The generator turns alleles and strands, and knows what each person's score must be."""
    draws = np.random.default_rng(seed)
    planted = draws.choice(["same", "swapped", "strand", "strand_swapped", "absent", "third", "unclear"], 120)
    pairs = [(UNCLEAR if kind == "unclear" else PAIRS)[draws.integers(0, 4)] for kind in planted]
    variants = variants_table(pairs)
    frequency = draws.uniform(0.05, 0.3, 120)
    genotypes = draws.binomial(2, frequency[:, None], (120, PEOPLE)).astype(np.int8)
    weights = draws.normal(size=120)
    rows, expected = [], np.zeros(PEOPLE)
    for at, kind in enumerate(planted):
        alt, ref = pairs[at][1], pairs[at][0]
        counted, other_strand = genotypes[at], bool(draws.integers(0, 2)) if kind == "unclear" else False
        if kind in ("swapped", "strand_swapped") or (kind == "unclear" and draws.integers(0, 2)):
            alt, ref, counted = ref, alt, 2 - counted
        effect_frequency = counted.mean() / 2
        if kind.startswith("strand") or other_strand:
            alt, ref = OTHER[alt], OTHER[ref]
        if kind == "third":
            ref = OTHER[alt]  # neither the variant's pair nor its complement
        named = {"effect_allele": alt, "other_allele": ref, "allelefrequency_effect": effect_frequency}
        if kind == "absent":
            named |= {"rsID": f"none{at}", "chr_position": 100 * at + 1}
        rows.append(row(variants, at, weights[at], **named))
        used = kind not in ("absent", "third") and (kind != "unclear" or way == "frequency")
        expected += weights[at] * counted if used else 0
        if kind == "unclear" and way == "keep":  # taken as written, right or wrong
            expected += weights[at] * (genotypes[at] if alt == pairs[at][1] else 2 - genotypes[at])
    file = score_file(tmp_path_factory.mktemp("planted"), rows)
    source = InMemoryGenotypes(people(), variants, genotypes)
    done = score(source, [file], options=ScoreOptions(matching=MatchOptions(ambiguous=way)))
    counts = {kind: int((planted == kind).sum()) for kind in np.unique(planted)}
    overlap = done.scored[0].overlap
    unclear = counts.get("unclear", 0)
    reasons = {matching.NOT_FOUND: counts.get("absent", 0), matching.OTHER_ALLELES: counts.get("third", 0)}
    reasons |= {matching.AMBIGUOUS: unclear if way == "drop" else 0}
    assert overlap.reasons == {reason: count for reason, count in reasons.items() if count}
    assert overlap.used == sum(counts.values()) - sum(reasons.values())
    if way == "drop":
        names = ("same", "swapped", "strand", "strand_swapped")
        kinds = {kind: counts.get(name, 0) for kind, name in zip(fitting.KINDS, names, strict=True)}
        assert overlap.kinds == {kind: count for kind, count in kinds.items() if count}
    np.testing.assert_allclose(done.table["S"].to_numpy(), expected, atol=1e-4)


def used(found: matching.Matching) -> NDArray[np.int64]:
    return found.used["variant"].to_numpy()


def test_ids_serve_where_positions_are_absent_and_on_another_build(tmp_path: Path) -> None:
    variants = variants_table(PAIRS)
    without = [row(variants, at, 1, chr_name=None, chr_position=None) for at in range(3)]
    found = match(score_file(tmp_path, without), variants)
    assert used(found).tolist() == [0, 1, 2]
    assert found.used["found_by"].to_list() == ["id"] * 3
    elsewhere = [row(variants, 0, 1, chr_position=200), row(variants, 1, 1, rsID=None)]
    lifted = match(score_file(tmp_path, elsewhere, build="GRCh37"), variants, build="GRCh38")
    assert used(lifted).tolist() == [0]
    assert lifted.table["reason"].to_list() == [None, matching.OTHER_BUILD]
    assert "GRCh37" in lifted.notes[0]
    assert "GRCh38" in lifted.notes[0]
    assert match(score_file(tmp_path, elsewhere, build="hg38"), variants, build="GRCh38").notes == ()


def test_another_build_is_told_from_ids_whose_positions_disagree(tmp_path: Path) -> None:
    variants = variants_table(PAIRS * 5)
    rows = [row(variants, at, 1, chr_position=100 * (at + 2)) for at in range(39)]
    found = match(score_file(tmp_path, rows), variants)
    assert "0 % of 39 ids" in found.notes[0]
    assert used(found).tolist() == list(range(39))


def test_alleles_of_a_site_with_three_are_told_apart_and_ref_is_what_none_of_them_is(tmp_path: Path) -> None:
    variants = variants_table([("A", "C"), ("A", "G"), ("C", "T")], position=[100, 100, 300], variant_id=["."] * 3)
    genotypes = np.array([[0, 1, 0, 1, 2], [0, 0, 2, 1, 0], [0, 1, 2, 0, 0]])
    rows = [
        row(variants, 1, 10, rsID=None),
        row(variants, 0, 1, rsID=None, effect_allele="A", other_allele="C"),
        row(variants, 2, 100, rsID=None),
    ]
    file = score_file(tmp_path, rows)
    done = score(InMemoryGenotypes(people(5), variants, genotypes.astype(np.int8)), [file])
    ref = 2 - genotypes[0] - genotypes[1]
    np.testing.assert_allclose(done.table["S"], 10 * genotypes[1] + ref + 100 * genotypes[2])
    assert done.table["n_variants_S"].to_list() == [3] * 5
    alone = score_file(tmp_path, [row(variants, 0, 1, rsID=None, effect_allele="A", other_allele=None)])
    assert match(alone, variants).notes == ()  # both alternatives fit, yet no variant is there twice
    twice = match(alone, variants.with_columns(alt=pl.lit("C")))
    assert "more than once" in twice.notes[0]


def test_rows_for_one_variant_count_once_and_contradictions_not_at_all(tmp_path: Path) -> None:
    variants = variants_table(PAIRS)
    rows = [row(variants, 0, 1), row(variants, 0, 1), row(variants, 1, 1), row(variants, 1, 2), row(variants, 2, 1)]
    rows += [row(variants, 3, 1), row(variants, 3, -1, effect_allele="C", other_allele="T")]
    found = match(score_file(tmp_path, rows), variants)
    assert found.table["reason"].to_list() == [
        None,
        matching.REPEATED,
        *[matching.CONFLICTING] * 2,
        None,
        *[matching.CONFLICTING] * 2,
    ]


def test_without_an_other_allele_and_with_variants_that_nobody_has(tmp_path: Path) -> None:
    variants = variants_table([("A", "C"), ("A", "."), ("A", "."), ("AT", "A")])
    rows = [
        row(variants, 0, 1, effect_allele="G", other_allele=None),  # the other strand's alt
        row(variants, 1, 1, effect_allele="A", other_allele="G"),
        row(variants, 2, 1, effect_allele="G", other_allele="A"),
        row(variants, 3, 1, effect_allele="T", other_allele="TA"),  # no strand for longer alleles
    ]
    found = match(score_file(tmp_path, rows), variants)
    assert found.table["kind"].to_list() == [fitting.STRAND, fitting.SWAPPED, fitting.SAME, None]
    genotypes = np.array([[0, 1, 2], [0, 0, 0], [0, 0, 0], [1, 1, 1]], np.int8)
    done = score(InMemoryGenotypes(people(3), variants, genotypes), [score_file(tmp_path, rows)])
    assert done.table["S"].to_list() == [2, 3, 4]


def test_strands_told_by_frequency_need_one_that_is_known_and_not_near_one_half(tmp_path: Path) -> None:
    variants = variants_table([("A", "T")] * 4)
    frequencies = np.array([0.2, 0.2, 0.45, 0.2])
    theirs = [0.75, 0.2, 0.2, None]
    rows = [row(variants, at, 1, allelefrequency_effect=theirs[at]) for at in range(4)]
    options = MatchOptions(ambiguous="frequency")
    found = match(score_file(tmp_path, rows), variants, options=options, frequencies=frequencies)
    assert found.table["kind"].to_list()[:2] == [fitting.STRAND_SWAPPED, fitting.SAME]
    expected = [None, None, matching.AMBIGUOUS_COMMON, matching.AMBIGUOUS_NO_FREQUENCY]
    assert found.table["reason"].to_list() == expected
