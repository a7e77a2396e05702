"""People placed on a simulated panel: unshrunk, whatever is missing, with probabilities that hold, and like none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.source import MISSING
from careloop.genome.population.ancestry.groups import fit_groups, place_among
from careloop.genome.population.ancestry.panel import Panel, make_panel, read_groups
from careloop.genome.population.ancestry.panel_files import read_panel, write_panel
from careloop.genome.population.ancestry.place import place
from careloop.genome.population.ancestry.projection import project, unshrunk
from careloop.genome.population.choice import ChoiceOptions
from careloop.genome.population.components import principal_components
from careloop.genome.population.prune import PruneOptions
from careloop.genome.simulate.cohort import GenotypeModel, SimulatedCohort, simulate_cohort

PEOPLE, VARIANTS = 360, 3000
NAMES = np.array(["North", "South", "East"])
UNPRUNED = ChoiceOptions(pruning=PruneOptions(r2=0.9, window=2, step=1))


@pytest.fixture(scope="module")
def cohort() -> SimulatedCohort:
    """Three populations of 120; the first 240 people are the reference."""
    model = GenotypeModel(frequencies=(0.1, 0.5), populations=3, fst=0.02, contigs=("1", "2"))
    return simulate_cohort(PEOPLE, VARIANTS, seed=8, model=model)


def source_of(
    cohort: SimulatedCohort, people: slice, genotypes: np.ndarray | None = None, variants: slice = slice(None)
) -> InMemoryGenotypes:
    values = (cohort.genotypes if genotypes is None else genotypes)[variants, people]
    return InMemoryGenotypes(cohort.samples[people], cohort.variants[variants], values)


@pytest.fixture(scope="module")
def panel(cohort: SimulatedCohort) -> Panel:
    groups = pl.DataFrame({"sample_id": cohort.samples["sample_id"], "group": NAMES[cohort.population]})
    return make_panel(source_of(cohort, slice(0, 240)), groups, count=4, choice=UNPRUNED)


def test_projection_is_not_shrunk(cohort: SimulatedCohort, panel: Panel) -> None:
    found = project(source_of(cohort, slice(240, None)), panel)
    labels = NAMES[cohort.population[240:]]
    for axis in (0, 1):
        centre = {name: panel.scores[panel.people["group"] == name, axis].mean() for name in NAMES}
        expected = np.array([centre[name] for name in labels])
        slope = {
            kind: (values[:, axis] @ expected) / (expected @ expected)
            for kind, values in (("simple", found.simple), ("corrected", found.corrected))
        }
        assert slope["simple"] < 0.8
        assert slope["corrected"] == pytest.approx(1, abs=0.06)


def test_projection_is_where_a_joint_analysis_puts_the_person(cohort: SimulatedCohort, panel: Panel) -> None:
    """Each person is added to the reference, all is decomposed anew, and the reference turned back onto itself."""
    found = project(source_of(cohort, slice(240, None)), panel).corrected[:4, :2]
    p = panel.frequencies
    rows = panel.variants.join(cohort.variants.with_row_index("row"), on="variant_id", maintain_order="left")["row"]
    standard = (cohort.genotypes[rows.to_numpy()] - 2 * p[:, None]) / np.sqrt(2 * p * (1 - p))[:, None]
    reference = standard[:, :240].T
    for number in range(4):
        joint = np.vstack([reference, standard[:, 240 + number]])
        left, stretch, _ = np.linalg.svd(joint, full_matrices=False)
        scores = left[:, :4] * stretch[:4]
        u, s, v = np.linalg.svd(scores[:240].T @ panel.scores)
        fitted = scores[240] @ (u @ v) * s.sum() / (scores[:240] ** 2).sum()
        assert found[number] == pytest.approx(fitted[:2], abs=0.12 * panel.scores[:, :2].std(axis=0).max())


def test_a_person_of_the_panel_lies_where_the_panel_has_them(cohort: SimulatedCohort, panel: Panel) -> None:
    found = project(source_of(cohort, slice(0, 240)), panel)
    assert found.simple == pytest.approx(panel.scores, abs=2e-3 * panel.scores.std())
    assert found.sample_ids.to_list() == panel.people["sample_id"].to_list()


def test_gaps_swaps_and_absent_variants_move_nobody_to_the_middle(cohort: SimulatedCohort, panel: Panel) -> None:
    whole = project(source_of(cohort, slice(240, None)), panel)
    genotypes = 2 - cohort.genotypes
    genotypes[np.random.default_rng(0).random(genotypes.shape) < 0.2] = MISSING
    kept = np.flatnonzero(np.random.default_rng(1).random(VARIANTS) < 0.7)
    turned = cohort.variants.rename({"ref": "alt", "alt": "ref"}).select(cohort.variants.columns)
    gappy = InMemoryGenotypes(cohort.samples[240:], turned[kept], genotypes[kept][:, 240:].astype(np.int8))
    found = project(gappy, panel)
    assert found.shared.swapped.all()
    assert found.variants.max() < 0.7 * panel.variants.height
    for axis in (0, 1):
        slope, noise = np.polyfit(whole.corrected[:, axis], found.corrected[:, axis], 1)
        assert slope == pytest.approx(1, abs=0.08)
        assert abs(noise) < 0.1 * panel.scores[:, axis].std()


def test_people_are_placed_in_their_groups_and_the_probabilities_hold(cohort: SimulatedCohort, panel: Panel) -> None:
    placed = place(source_of(cohort, slice(240, None)), panel)
    truth = NAMES[cohort.population[240:]]
    assert (placed.table["nearest"].to_numpy() == truth).all()
    assert placed.table["like_none"].sum() == 0
    assert placed.groups.components.tolist() == [0, 1]
    p = np.sort(placed.table["p_value"].to_numpy())
    assert np.abs(p - (np.arange(120) + 0.5) / 120).max() < 1.63 / np.sqrt(120)  # Kolmogorov and Smirnov's 1 % limit
    mixture = placed.table.select(pl.selectors.starts_with("mixture_")).to_numpy()
    assert mixture.sum(axis=1) == pytest.approx(np.ones(120))


def test_mixed_people_and_strangers_are_like_none(cohort: SimulatedCohort, panel: Panel) -> None:
    draws = np.random.default_rng(3)
    half = cohort.frequencies[:, [0, 1]].mean(axis=1)
    mixed = draws.binomial(2, np.repeat(half[:, None], 20, axis=1)).astype(np.int8)
    far = simulate_cohort(20, VARIANTS, seed=99, model=GenotypeModel(frequencies=(0.1, 0.5), fst=0.0)).genotypes
    people = source_of(cohort, slice(0, 40), np.hstack([mixed, far]))
    table = place(people, panel).table
    assert table["like_none"][:20].sum() >= 18
    shares = table.select("mixture_North", "mixture_South", "mixture_East").to_numpy()[:20].mean(axis=0)
    assert shares == pytest.approx([0.5, 0.5, 0], abs=0.07)
    assert table["like_none"][20:].sum() >= 15


def test_relatives_and_people_without_a_group_are_left_out_of_a_panel(cohort: SimulatedCohort) -> None:
    genotypes = cohort.genotypes[:, :120].copy()
    genotypes[:, 119] = genotypes[:, 0]
    groups = pl.DataFrame({"sample_id": cohort.samples["sample_id"][:120], "group": NAMES[cohort.population[:120]]})
    made = make_panel(
        InMemoryGenotypes(cohort.samples[:120], cohort.variants, genotypes),
        groups.filter(pl.col("sample_id") != "P000005"),
        count=2,
        choice=UNPRUNED,
    )
    assert made.people.height == 118
    assert made.left_out["people without a group"] == 1
    assert made.left_out["people related to others"] == 1


def test_a_panel_is_read_as_it_was_written(panel: Panel, tmp_path: Path) -> None:
    write_panel(panel, tmp_path / "panel")
    again = read_panel(tmp_path / "panel")
    assert again.people.equals(panel.people)
    assert again.variants.equals(panel.variants)
    for name in ("loadings", "frequencies", "singular_values", "share"):
        assert np.array_equal(getattr(again, name), getattr(panel, name))
    assert (again.build, again.left_out) == (panel.build, panel.left_out)
    with pytest.raises(InputError, match="there already"):
        write_panel(panel, tmp_path / "panel")
    (tmp_path / "panel" / "people.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match="cannot be read"):
        read_panel(tmp_path / "panel")
    with pytest.raises(InputError, match="not a folder of a reference panel"):
        read_panel(tmp_path)


def test_groups_are_placed_by_hotellings_distribution() -> None:
    """The p of a group's own next member is uniform, also in a small group of correlated components."""
    draws = np.random.default_rng(4)
    mixing = np.array([[2.0, 0.0], [1.5, 0.5]])
    p = []
    for _ in range(200):
        cloud = draws.standard_normal((13, 2)) @ mixing.T
        other = draws.standard_normal((40, 2)) + 100
        groups = fit_groups(np.vstack([cloud[:12], other]), ["a"] * 12 + ["b"] * 40)
        p.append(place_among(groups, cloud[12:]).p_values[0, 0])
    assert np.abs(np.sort(p) - (np.arange(200) + 0.5) / 200).max() < 1.63 / np.sqrt(200)


def test_probabilities_are_those_of_the_normal_densities() -> None:
    draws = np.random.default_rng(5)
    scores = np.vstack([draws.standard_normal((20000, 1)), draws.standard_normal((20000, 1)) + 2])
    groups = fit_groups(scores, ["a"] * 20000 + ["b"] * 20000)
    points = np.array([[0.0], [1.0], [1.5]])
    expected = 1 / (1 + np.exp(2 * points[:, 0] - 2))  # likelihood ratio of two normals two apart
    assert place_among(groups, points).probabilities[:, 0] == pytest.approx(expected, abs=0.02)


def test_people_of_whom_nothing_is_known_are_like_none(cohort: SimulatedCohort, panel: Panel) -> None:
    genotypes = cohort.genotypes.copy()
    genotypes[:, 240] = MISSING
    table = place(source_of(cohort, slice(240, 245), genotypes), panel).table
    assert table["like_none"].to_list() == [True, False, False, False, False]
    assert table["PC1"][0] is None


def test_correction_without_shrinkage_changes_nothing() -> None:
    """A person who lies wholly within the components of an endless reference needs no correction."""
    simple = np.array([[3.0, -1.0]])
    assert unshrunk(simple, np.array([10.0]), np.array([1e4, 5e3])) == pytest.approx(simple, rel=1e-3)


def test_few_people_and_few_shared_variants_are_refused(cohort: SimulatedCohort, panel: Panel) -> None:
    with pytest.raises(InputError, match="needs 50 people"):
        make_panel(source_of(cohort, slice(0, 240)), pl.DataFrame({"sample_id": ["P000001"], "group": ["North"]}))
    with pytest.raises(InputError, match="must have 500 variants in common"):
        project(source_of(cohort, slice(240, None), variants=slice(0, 400)), panel)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sample_id,group\na,N\nb,S\n", [("a", "N"), ("b", "S")]),
        ("#IID\tSEX\tpop\na\t1\tN\n", [("a", "N")]),
        ("sample\tsuper_pop\na\tN\n", [("a", "N")]),
    ],
)
def test_groups_are_read(text: str, expected: list[tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "groups.txt").write_text(text)
    assert read_groups(tmp_path / "groups.txt").rows() == expected


@pytest.mark.parametrize(
    ("text", "message"), [("a,b\n1,2\n", "has columns sample_id and group"), ("iid,pop\na,N\na,S\n", "more than once")]
)
def test_tables_of_groups_are_checked(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_groups(tmp_path / "groups.csv")
    with pytest.raises(InputError, match="no such file"):
        read_groups(tmp_path / "absent.csv")


def test_panel_is_of_the_components(cohort: SimulatedCohort, panel: Panel) -> None:
    rows = panel.variants.join(cohort.variants.with_row_index("row"), on="variant_id", maintain_order="left")["row"]
    made = principal_components(source_of(cohort, slice(0, 240)), count=4, variants=rows.cast(pl.Int64).to_numpy())
    assert made.scores == pytest.approx(panel.scores)
