"""Polygenic scores from summary statistics of simulated people, against the R2 that theory expects.

    OMP_NUM_THREADS=1 python benchmarks/polygenic_simulation.py            # about 8 minutes of one core
    OMP_NUM_THREADS=1 python benchmarks/polygenic_simulation.py --segments 6 --people 3000 --traits 2   # a minute

Everyone is simulated: msprime (coalescent, 10,000 diploids, recombination and mutation 1e-8 a base) draws segments of 3
million bases, of which some variants with both alleles above 1 % are kept. Traits of known heritability have effects on
standardised genotypes: normal ones of every variant (infinitesimal), or of 1 % of them (sparse). The disease has those
whose liability is among the highest 20 %; its association is logistic and its R2 is on the liability scale (Lee et al.,
Genet Epidemiol 2012;36:214). People are parted into the study, a panel for linkage, tuning people (for clumping and
thresholding alone) and test people, in whom each R2 is taken.

The theory. With genotypes' correlation matrix of eigenvalues d, effects of variance t = h2 / M and n people, marginal
effects along an eigenvector are d b + error of variance d s / n, and the best score (posterior mean) explains

    R2 = sum of d^2 t^2 / (d t + s / n)

where s is the variance that is noise to an effect. A score from summary statistics corrects for linkage within a block,
so that all that other blocks explain is noise in it: s = 1 less the block's own R2, taken as 1 here. With all d equal
over M_eff directions this is Daetwyler's R2 = h2 / (1 + M_eff / (n h2)) (PLoS ONE 2008;3:e3395). A score fitted to the
genotypes of everyone at once takes that away, too: s = 1 - R2, the form with M_eff (1 - R2) (Wray et al., Nat Rev Genet
2013;14:507; Dobriban and Wager, Ann Stat 2018;46:247); it is shown beside it and cannot be had from summary statistics.
For sparse effects of linked variants nothing is exact: the figure is what a score has at least that knows that they are
sparse. Of independent variants with sparse effects, though, the best score's R2 is an integral over one variant:

    R2 = M E[E[b | b + e]^2]     with e of variance 1 / n.

The disease's R2 is expected on the scale of 0 and 1, where h2 is that of liability times height^2 / (K (1 - K)), and
brought back to liability.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop.genome.association.associate import associate
from careloop.genome.association.phenotypes import Phenotypes
from careloop.genome.association.summary_statistics import read_summary_statistics
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.linkage.correlations import correlations
from careloop.genome.genotypes.linkage.linkage import Linkage, linkage_of
from careloop.genome.population.components import principal_components
from careloop.genome.risk.weights.aligned import Aligned, align
from careloop.genome.risk.weights.quality import check_quality
from careloop.genome.risk.weights.shrinkage.gibbs import Schedule
from careloop.genome.risk.weights.shrinkage.shrink import AutoOptions, Shrunk, shrink_auto
from careloop.genome.risk.weights.threshold import ThresholdOptions, clump_and_threshold
from careloop.genome.risk.weights.tuning import Tuning, r2_of_scores, scores_of
from careloop.genome.simulate.cohort import GenotypeModel, TraitModel, simulate_cohort

SEGMENT_BASES = 3_000_000
PREVALENCE = 0.2
LEAST_FREQUENCY = 0.01
Z_95 = 1.96


@dataclass(frozen=True)
class People:
    """Simulated people: genotypes (variants, people) in memory, standardised spread, and who is what (rows)."""

    source: InMemoryGenotypes
    segment: NDArray[np.int64]
    study: NDArray[np.int64]
    panel: NDArray[np.int64]
    tuning: NDArray[np.int64]
    test: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64]) -> InMemoryGenotypes:
        """Some of the people, as a genotype file has them."""
        source = self.source
        return InMemoryGenotypes(source.samples[rows], source.variants, source.genotypes(slice(None), rows))


def simulate_people(segments: int, variants: int, people: int, *, seed: int) -> People:
    """`people` in the study; a quarter as many in the panel, a sixth for tuning, half as many to test."""
    parts = (people, people // 4, people // 6, people // 2)
    values, positions = [], []
    for segment in range(segments):
        found, places = simulate_segment(sum(parts), variants, seed=seed * 1_000 + segment + 1)
        values.append(found)
        positions.append(places)
    at = np.split(np.arange(sum(parts)), np.cumsum(parts)[:-1])
    number = np.repeat(np.arange(segments), [len(one) for one in values])
    table = pl.DataFrame(
        {
            "contig": (number + 1).astype(str),
            "position": np.concatenate(positions),
            "variant_id": [f"rs{one + 1}" for one in range(number.size)],
            "ref": ["A"] * number.size,
            "alt": ["G"] * number.size,
        }
    )
    return People(InMemoryGenotypes(samples(sum(parts)), table, np.concatenate(values)), number, *at)


def simulate_segment(people: int, variants: int, *, seed: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Genotypes (variants, people) of one segment, and their positions."""
    import msprime

    rates = {"recombination_rate": 1e-8, "population_size": 10_000, "sequence_length": SEGMENT_BASES}
    trees = msprime.sim_ancestry(people, random_seed=seed, **rates)
    trees = msprime.sim_mutations(trees, rate=1e-8, random_seed=seed, model=msprime.BinaryMutationModel())
    kept, places = [], []
    for site in trees.variants():
        copies = site.genotypes.reshape(people, 2).sum(axis=1, dtype=np.int8)
        if LEAST_FREQUENCY <= copies.mean() / 2 <= 1 - LEAST_FREQUENCY:
            kept.append(copies)
            places.append(int(site.site.position) + 1)
    chosen = np.sort(np.random.default_rng(seed).choice(len(kept), min(variants, len(kept)), replace=False))
    return np.stack([kept[one] for one in chosen]), np.array(places)[chosen]


def samples(count: int) -> pl.DataFrame:
    """A table of people without parents."""
    nobody = pl.Series([None] * count, dtype=pl.String())
    columns = dict.fromkeys(("family_id", "father_id", "mother_id", "sex"), nobody)
    return pl.DataFrame({"sample_id": [f"P{number + 1:06d}" for number in range(count)], **columns})


def genetic_values(people: People, h2: float, causal: float, draws: np.random.Generator) -> NDArray[np.float64]:
    """Genetic values (people,) of variance h2: normal effects on standardised genotypes."""
    count = people.source.variants.height
    chosen = np.flatnonzero(draws.random(count) < causal)
    values = people.source.genotypes(chosen).astype(np.float32)
    values = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    genetic: NDArray[np.float64] = draws.standard_normal(chosen.size) @ values
    return genetic * np.sqrt(h2) / genetic.std()


def eigenvalues(people: People) -> NDArray[np.float64]:
    """Eigenvalues of the correlations within segments, in everyone: (variants,)."""
    found = []
    for segment in np.unique(people.segment):
        rows = np.flatnonzero(people.segment == segment)
        found.append(np.linalg.eigvalsh(correlations(people.source.genotypes(rows))))
    return np.maximum(np.concatenate(found), 0)


def expected_r2(d: NDArray[np.float64], h2: float, people: float, *, noise: float | None = 1.0) -> float:
    """The R2 of the best score of infinitesimal effects; `noise` is s, None for 1 - R2."""
    t, r2 = h2 / d.size, 0.0
    for _ in range(200):
        r2 = float((d**2 * t**2 / (d * t + (1 - r2 if noise is None else noise) / people)).sum())
    return r2


def expected_r2_sparse(count: int, causal: float, h2: float, people: float) -> float:
    """The R2 of the best score of sparse effects of independent variants, by an integral over what is observed."""
    slab, error = h2 / (count * causal), 1 / people
    wide = np.sqrt(slab + error)
    observed = np.linspace(-12, 12, 200_001) * wide

    def normal(variance: float) -> NDArray[np.float64]:
        return np.exp(-(observed**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    with_effect, without = causal * normal(slab + error), (1 - causal) * normal(error)
    mean = with_effect / (with_effect + without) * observed * slab / (slab + error)
    return count * float((mean**2 * (with_effect + without)).sum() * (observed[1] - observed[0]))


def statistics_of(people: People, trait: NDArray[np.float64], kind: str, folder: Path) -> Aligned:
    """The study's association, written and read as a user would, laid beside the variants."""
    study = people.of(people.study)
    chosen = Phenotypes(np.arange(people.study.size), trait[people.study], kind)  # type: ignore[arg-type]
    path = folder / "statistics.tsv"
    associate(study, chosen, out=path)
    return align(read_summary_statistics(path), people.source.variants)


def shrunk_of(aligned: Aligned, linkage: Linkage, kind: str, options: AutoOptions) -> tuple[Shrunk, NDArray[np.int64]]:
    """Quality control and shrinkage; the linkage's variants are all of the people's."""
    quality = check_quality(aligned, linkage.frequency[aligned.rows], linkage.spread[aligned.rows], trait=kind)  # type: ignore[arg-type]
    chosen = quality.aligned
    return shrink_auto(chosen, linkage.only(chosen.rows), options=options), chosen.rows


def liability_r2(r2: float) -> float:
    """R2 of a disease coded 0 and 1 on the scale of liability, in people who are not selected."""
    height = NormalDist().pdf(NormalDist().inv_cdf(1 - PREVALENCE))
    return r2 * PREVALENCE * (1 - PREVALENCE) / height**2


def balanced_to_liability(r2: float) -> float:
    """The same of figures from log odds and effective people, which are those of as many cases as controls."""
    return liability_r2(r2) * PREVALENCE * (1 - PREVALENCE) / 0.25


def run_trait(
    people: People, linkages: dict[str, Linkage], setting: argparse.Namespace, seed: int, folder: Path
) -> list[dict[str, object]]:
    """All scores of one seed's traits: one row a trait, method and panel with the R2 in test people."""
    draws, rows = np.random.default_rng(seed), list[dict[str, object]]()
    options = AutoOptions(kept=setting.kept, schedule=Schedule(setting.sweeps, setting.sweeps, seed))
    for effects, causal in (("infinitesimal", 1.0), ("sparse", 0.01)):
        genetic = genetic_values(people, setting.h2, causal, draws)
        liability = genetic + np.sqrt(1 - setting.h2) * draws.standard_normal(genetic.size)
        case = (liability > np.quantile(liability, 1 - PREVALENCE)).astype(float)
        for kind, trait in (("quantitative", liability), ("binary", case)):
            aligned = statistics_of(people, trait, kind, folder)
            tested = {}
            for name, linkage in linkages.items():
                start = time.process_time()
                found, used = shrunk_of(aligned, linkage, kind, options)
                weights = np.zeros(people.source.variants.height)
                weights[used] = found.weights
                tested[f"shrinkage, {name}"] = (weights, time.process_time() - start, found.h2[0], found.r2)
            start = time.process_time()
            tuning = Tuning(people.source, people.tuning, trait[people.tuning])
            threshold = clump_and_threshold(aligned, people.of(people.panel), tuning, options=ThresholdOptions())
            weights = np.zeros(people.source.variants.height)
            weights[aligned.rows] = threshold.weights
            tested["clumping + thresholding"] = (weights, time.process_time() - start, float("nan"), float("nan"))
            matrix = np.stack([one[0] for one in tested.values()], axis=1)
            scores = scores_of(people.source, np.arange(len(matrix)), matrix, samples=people.test)
            observed = r2_of_scores(scores, trait[people.test])
            known = r2_of_scores(scores, genetic[people.test]) * setting.h2
            for at, (method, (_, seconds, h2, said)) in enumerate(tested.items()):
                row = {"effects": effects, "trait": kind, "method": method, "by_genetic_value": known[at]}
                row["r2"] = liability_r2(observed[at]) if kind == "binary" else observed[at]
                own = balanced_to_liability if kind == "binary" else float
                rows.append({**row, "h2": own(h2), "said": own(said), "cpu": seconds})
    return rows


def theory(d: NDArray[np.float64], h2: float, people: float) -> dict[str, tuple[float, float]]:
    """Of each kind of trait, the expected R2 from summary statistics, and from everyone's genotypes."""
    binary = (liability_r2(expected_r2(d, h2 / liability_r2(1.0), people, noise=noise)) for noise in (1.0, None))
    quantitative = (expected_r2(d, h2, people, noise=noise) for noise in (1.0, None))
    return {"quantitative": tuple(quantitative), "binary": tuple(binary)}  # type: ignore[dict-item]


def show_scores(rows: list[dict[str, object]], expected: dict[str, tuple[float, float]]) -> None:
    """One line a trait and method: R2 over simulated traits, and its share of theory.

    By genetic value: squared correlation of score and genetic value times h2, which is the R2 in expectation with less
    chance in it, and what is compared with theory. `h2` and `said` (R2 in people like the panel's) are the shrinkage's.
    """
    table = pl.DataFrame(rows)
    print(f"{'effects':<15}{'trait':<14}{'method':<33}{'R2 in test people':<26}{'by genetic value':<26}", end="")
    print(f"{'theory':>7}{'share':>7}{'genotypes':>11}{'h2':>7}{'said':>7}{'CPU s':>7}")
    for (effects, trait, method), group in table.group_by("effects", "trait", "method", maintain_order=True):
        statistics, genotypes = expected[str(trait)]
        known = group["by_genetic_value"]
        print(f"{effects:<15}{trait:<14}{method:<33}{mean(group['r2']):<26}{mean(known):<26}", end="")
        print(f"{statistics:>7.4f}{known.mean() / statistics:>7.3f}{genotypes:>11.4f}", end="")
        print(f"{group['h2'].mean():>7.3f}{group['said'].mean():>7.4f}{group['cpu'].mean():>7.1f}")


def mean(values: pl.Series) -> str:
    """The mean over simulated traits with its 95 % interval."""
    each = values.to_numpy()
    found, half = float(each.mean()), Z_95 * float(each.std(ddof=1)) / np.sqrt(len(each))
    return f"{found:.4f} ({found - half:.4f}-{found + half:.4f})"


def show_independent(setting: argparse.Namespace) -> None:
    """Sparse effects of independent variants, for which the R2 is known exactly."""
    count, causal, r2 = 5_000, 0.02, []
    half = setting.people + setting.people // 2
    for seed in range(setting.traits):
        made = simulate_cohort(
            *(half, count),
            seed=seed,
            model=GenotypeModel(frequencies=(0.05, 0.5)),
            trait=TraitModel(heritability=setting.h2, causal=int(count * causal), covariates=0),
        )
        study, test = np.arange(setting.people), np.arange(setting.people, half)
        source = InMemoryGenotypes(made.samples, made.variants, made.genotypes)
        people = People(source, np.zeros(count, np.int64), study, study, study, test)
        with tempfile.TemporaryDirectory() as folder:
            aligned = statistics_of(people, made.phenotypes["trait"].to_numpy(), "quantitative", Path(folder))
        alone = tuple(np.ones((1, 1), np.float32) for _ in range(count))
        spread = made.genotypes.std(axis=1, dtype=np.float64)
        linkage = Linkage(made.variants, made.genotypes.mean(axis=1) / 2, spread, alone, setting.people)
        found, used = shrunk_of(
            aligned, linkage, "quantitative", AutoOptions(schedule=Schedule(setting.sweeps, setting.sweeps, seed))
        )
        scores = scores_of(source, used, found.weights[:, None], samples=test)
        r2.append(float(r2_of_scores(scores, made.genetic_values[test])[0]) * setting.h2)
    expected = expected_r2_sparse(count, causal, setting.h2, setting.people)
    print(f"\nIndependent variants, 2 % with an effect: R2 {np.mean(r2):.4f}, theory {expected:.4f},", end=" ")
    print(f"share {np.mean(r2) / expected:.3f}")


def show_shuffled(people: People, linkage: Linkage, setting: argparse.Namespace, folder: Path) -> None:
    """A trait dealt out anew has no heritability and no score."""
    draws, r2, h2 = np.random.default_rng(99), [], []
    for seed in range(setting.traits):
        trait = draws.permutation(genetic_values(people, 1.0, 1.0, draws))
        aligned = statistics_of(people, trait, "quantitative", folder)
        found, used = shrunk_of(
            *(aligned, linkage, "quantitative"),
            AutoOptions(kept=setting.kept, schedule=Schedule(setting.sweeps, setting.sweeps, seed)),
        )
        scores = scores_of(people.source, used, found.weights[:, None], samples=people.test)
        r2.append(float(np.corrcoef(scores[:, 0], trait[people.test])[0, 1]))
        h2.append((found.regression.h2, found.regression.h2_error))
    text = ", ".join(f"{one:.3f} ({error:.3f})" for one, error in h2)
    print(f"\nShuffled trait: r of score and trait in test people {', '.join(f'{one:+.3f}' for one in r2)}")
    print(f"  (chance: within {Z_95 / np.sqrt(people.test.size):.3f}); h2 by LD score regression (its error): {text}")


def show_structure(setting: argparse.Namespace) -> None:
    """Two populations that differ in a trait for no genetic reason: inflation without and with components."""
    for seed in range(2):
        made = simulate_cohort(
            *(3_000, 10_000),
            seed=seed,
            model=GenotypeModel(populations=2, fst=0.01, frequencies=(0.05, 0.5)),
            trait=TraitModel(heritability=0.0, covariates=0, population_share=0.2),
        )
        source = InMemoryGenotypes(made.samples, made.variants, made.genotypes)
        trait, everyone = made.phenotypes["trait"].to_numpy(), np.arange(3_000)
        found = principal_components(source, count=2)
        covariates = {f"PC{number + 1}": found.vectors[:, number] for number in range(2)}
        plain = associate(source, Phenotypes(everyone, trait, "quantitative"))
        adjusted = associate(source, Phenotypes(everyone, trait, "quantitative", covariates))
        print(f"\nTwo populations (fst .01), no variant with an effect, seed {seed}: ", end="")
        print(f"lambda GC {plain.lambda_gc:.3f} without components, {adjusted.lambda_gc:.3f} with two", end="")


def main() -> None:
    """Simulate, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=12)
    parser.add_argument("--variants", type=int, default=500, help="of a segment")
    parser.add_argument("--people", type=int, default=5_000, help="in the study")
    parser.add_argument("--traits", type=int, default=4)
    parser.add_argument("--h2", type=float, default=0.4)
    parser.add_argument("--sweeps", type=int, default=200, help="of the burn-in, and again that count")
    parser.add_argument("--kept", type=float, default=0.95, help="of off-diagonal correlations")
    parser.add_argument("--seed", type=int, default=1)
    setting = parser.parse_args()
    start = time.process_time()
    people = simulate_people(setting.segments, setting.variants, setting.people, seed=setting.seed)
    d = eigenvalues(people)
    print(f"Simulated by msprime: {people.source.variants.height:,} variants on {setting.segments} segments;", end=" ")
    print(f"{people.study.size:,} people studied, {people.panel.size:,} in the panel,", end=" ")
    print(f"{people.tuning.size:,} for tuning, {people.test.size:,} to test; h2 {setting.h2}", end="; ")
    print(f"effective number of variants (M^2 / sum d^2) {d.sum() ** 2 / (d**2).sum():,.0f}")
    linkages = {
        "linkage of the study": linkage_of(people.source, samples=people.study, max_size=setting.variants),
        "linkage of the panel": linkage_of(people.source, samples=people.panel, max_size=setting.variants),
    }
    parted = ", ".join(f"{one.parted:.3f}" for one in linkages.values())
    print(
        f"r2 of a variant with those of other blocks, in sum: {parted}; CPU so far {time.process_time() - start:.0f} s"
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for trait in range(setting.traits)
            for row in run_trait(people, linkages, setting, setting.seed * 100 + trait, Path(folder))
        ]
        show_scores(rows, theory(d, setting.h2, setting.people))
        show_shuffled(people, linkages["linkage of the panel"], setting, Path(folder))
    show_independent(setting)
    show_structure(setting)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n\nCPU {time.process_time() - start:.0f} s, peak memory {peak:,.0f} MB")


if __name__ == "__main__":
    main()
