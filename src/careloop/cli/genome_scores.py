"""The commands of polygenic scores: people scored, calibrated by ancestry, and the absolute risk that a score means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, json_option
from careloop.cli.genome import NOT_CLINICAL, ambiguous_option, genome, sample_file_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    import polars as pl

    from careloop.genome.risk.absolute_risk import RiskCurve
    from careloop.genome.risk.ancestry_calibration import AncestryCalibration
    from careloop.genome.risk.scores.score import Scored, Scores

FAR_OUT = "This person is farther out in ancestry than anyone that the score was calibrated on: the place may be wrong."


@genome.command()
@click.argument("genotypes", type=FOLDER)
@click.option(
    "--weights",
    required=True,
    multiple=True,
    type=FOLDER,
    metavar="FILE",
    help="PGS Catalog scoring file, or a table of variants, alleles and weights; may be repeated.",
)
@click.option("--out", required=True, type=FOLDER, metavar="TSV", help="Table to write: a row a person.")
@ambiguous_option
@click.option(
    "--missing",
    type=click.Choice(["mean", "none"]),
    default="mean",
    show_default=True,
    help="Missing genotypes add what is expected at the allele's frequency, as plink2 has it, or nothing.",
)
@click.option(
    "--unit",
    type=click.Choice(["sum", "average"]),
    default="sum",
    show_default=True,
    help="The sum, or the average an allele.",
)
@click.option("--frequencies", type=FOLDER, metavar="AFREQ", help="Allele frequencies, as plink2 --freq writes them.")
@click.option("--min-overlap", type=float, default=0.0, show_default=True, help="Leave scores out that use less.")
@sample_file_option
@click.option("--matches", type=FOLDER, metavar="TSV", help="Write what became of each variant of each score.")
@click.option("--pcs", type=FOLDER, metavar="TABLE", help="Principal components by which scores are calibrated.")
@click.option("--components", type=int, default=4, show_default=True, help="How many of them.")
@click.option("--reference", type=FOLDER, metavar="FILE", help="Ids of the people to calibrate on; default: all.")
@click.option("--calibration", type=FOLDER, metavar="JSON", help="Use this calibration instead of fitting one.")
@click.option("--page", type=FOLDER, metavar="HTML", help="Write a page of the scores, with --person's place.")
@click.option("--person", help="Whose place among the others the page shows.")
@click.option("--simulated", is_flag=True, help="Say on the page that the data are simulated.")
@json_option
def score(
    genotypes: Path,
    weights: tuple[Path, ...],
    out: Path,
    sample_file: Path | None,
    matches: Path | None,
    page: Path | None,
    person: str | None,
    simulated: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Score everyone in GENOTYPES by each file of weights, in one pass.

    What of a score could be used is printed, and what not, by reason. With --pcs, scores are also given as standard
    deviations from what is expected in people of like ancestry, and as percentiles.
    """
    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.genome.risk.scores.score import ScoreOptions
    from careloop.genome.risk.scores.score import score as scored
    from careloop.record.whole_file import whole_file

    calibrating = {name: given.pop(name) for name in ("pcs", "components", "reference", "calibration")}
    options = ScoreOptions(matching=_matching(given.pop("ambiguous")), **given)
    with counter() as progress:
        done = scored(open_genotypes(genotypes, sample_file=sample_file), weights, options=options, progress=progress)
    table, notes, beyond = _calibrated(done, out, **calibrating)
    with whole_file(out) as draft:
        table.write_csv(draft, separator="\t", float_precision=None)
    if matches is not None:
        _write_matches(done, matches)
    if page is not None:
        warned = (FAR_OUT,) if person is not None and person in beyond else ()
        _write_page(done, table, page, person=person, source=genotypes.name, warned=warned, simulated=simulated)
    shown = {"out": str(out), "people": table.height, "scores": [_facts(one) for one in done.scored], "notes": notes}
    lines = [line for one in done.scored for line in _lines(one)]
    show(shown, "\n".join([*lines, *notes, f"Wrote {table.height:,} people to {out}", NOT_CLINICAL]), as_json=as_json)


def _matching(ambiguous: Any) -> Any:
    from careloop.genome.risk.scores.matching import MatchOptions

    return MatchOptions(ambiguous=ambiguous)


def _calibrated(
    done: Scores,
    out: Path,
    *,
    pcs: Path | None,
    components: int,
    reference: Path | None,
    calibration: Path | None,
) -> tuple[pl.DataFrame, list[str], set[str]]:
    """The scores with calibrated values, what is to be said of them, and who is farther out than the reference."""
    if pcs is None:
        if reference is not None or calibration is not None:
            raise click.UsageError("--reference and --calibration go with --pcs")
        return done.table, [], set()
    import polars as pl

    from careloop.genome.findings.scores.score_table import read_score_table
    from careloop.genome.risk import ancestry_calibration

    found = read_score_table(pcs, kind="pc")
    if calibration is not None:
        fitted = list(ancestry_calibration.read_calibrations(calibration))
    else:
        fitted = _fitted(done, found, components, reference)
        ancestry_calibration.write_calibrations(fitted, out.with_name(f"{out.name}.calibration.json"))
    table, beyond = ancestry_calibration.calibrate_table(done.table, found, fitted)
    notes = [f"calibrated on {one.people:,} people by {len(one.components)} components: {one.score}" for one in fitted]
    outside = set(done.table["sample_id"].filter(pl.Series(beyond)))
    if outside:
        notes.append(f"{len(outside):,} people are farther out than anyone calibrated on: theirs is extrapolated")
    return table, notes, outside


def _fitted(done: Scores, found: pl.DataFrame, count: int, reference: Path | None) -> list[AncestryCalibration]:
    """A calibration of each score, on people of the reference who have all components."""
    import numpy as np

    from careloop import InputError
    from careloop.genome.risk.ancestry_calibration import aligned, fit_calibration

    names = sorted((name for name in found.columns if name.isdigit()), key=int)[:count]
    if len(names) < count:
        raise InputError(f"the table of components has {len(names)} of the {count} asked for; give fewer --components")
    chosen = np.ones(done.table.height, np.bool_)
    if reference is not None:
        ids = {line.split()[-1] for line in reference.read_text().splitlines() if line.strip()}
        chosen = done.table["sample_id"].is_in(ids).to_numpy()
    fitted = []
    for one in done.scored:
        if one.left_out:
            continue
        values, components = aligned(done.table, found, one.name, names)
        known = chosen & np.isfinite(values) & np.isfinite(components).all(axis=1)
        fitted.append(fit_calibration(values[known], components[known], score=one.name, names=names))
    return fitted


def _write_matches(done: Scores, path: Path) -> None:
    import polars as pl

    from careloop.record.whole_file import whole_file

    tables = [one.matching.table.select(pl.lit(one.name).alias("score"), pl.all()) for one in done.scored]
    with whole_file(path) as draft:
        pl.concat(tables).write_csv(draft, separator="\t")


def _write_page(
    done: Scores,
    table: pl.DataFrame,
    path: Path,
    *,
    person: str | None,
    source: str,
    warned: tuple[str, ...],
    simulated: bool,
) -> None:
    from careloop.genome.risk.scores.placed import place
    from careloop.report.score_page import ShownScore, write_score_page

    shown = []
    for one in done.scored:
        if one.left_out:
            continue
        calibrated = f"{one.name}_z" in table.columns
        found = place(table, f"{one.name}_z" if calibrated else one.name, person)
        axis = "standard deviations from people of like ancestry" if calibrated else f"{one.name}, as it is summed up"
        compared = "calibrated by ancestry" if calibrated else "of any ancestry, as they are in the file"
        shown.append(
            ShownScore(
                name=one.name,
                others=found.others,
                compared=f"the others of {source}, {compared}",
                axis=axis,
                value=found.value,
                percentile=found.percentile,
                overlap=one.overlap,
                notes=(*one.file.notes, *one.matching.notes, *warned),
            )
        )
    write_score_page(shown, path, person=person, source=source, simulated=simulated)


def _facts(one: Scored) -> dict[str, Any]:
    return {
        "name": one.name,
        "file": str(one.file.path),
        "build": one.file.build,
        **asdict(one.overlap),
        "variants": one.overlap.variants,
        "left_out": one.left_out,
        "notes": [*one.file.notes, *one.matching.notes],
    }


def _lines(one: Scored) -> list[str]:
    found = one.overlap
    share = f"{100 * found.variants:.1f} %, with {100 * found.weights:.1f} % of the absolute weights"
    lines = [f"{one.name}: {found.used:,} of {found.rows:,} variants used ({share})"]
    lines += [f"  used, {kind:<62} {count:>10,}" for kind, count in found.kinds.items()]
    lines += [f"  not used, {reason:<58} {count:>10,}" for reason, count in found.reasons.items()]
    lines += [f"  {note}" for note in (*one.file.notes, *one.matching.notes)]
    return [*lines, "  left out: the overlap is below --min-overlap"] if one.left_out else lines


@genome.command()
@click.argument("scores", type=FOLDER)
@click.option("--score", "name", required=True, metavar="NAME", help="Column of SCORES; NAME_z is taken if there.")
@click.option(
    "--rates",
    required=True,
    type=FOLDER,
    metavar="TABLE",
    help="By age: incidence a person and year (or incidence_per_100000), mortality from other causes; perhaps sex.",
)
@click.option("--ratio", required=True, type=float, help="Hazard ratio a standard deviation of the score.")
@click.option("--interval", type=(float, float), metavar="LOW HIGH", help="95 % interval of the ratio.")
@click.option("--age", required=True, type=float, help="Age at which the person is free of the disease, in years.")
@click.option("--to-age", type=float, help="Age up to which the risk is; default: the last of the rates.")
@click.option("--sex", type=click.Choice(["female", "male"]), help="Needed where rates are by sex.")
@click.option("--person", help="Only this person of SCORES.")
@click.option("--out", type=FOLDER, metavar="TSV", help="Table to write: a row a person.")
@click.option("--page", type=FOLDER, metavar="HTML", help="Write a page with the curve; needs --person.")
@click.option("--simulated", is_flag=True, help="Say on the page that the data are simulated.")
@json_option
def risk(
    scores: Path,
    name: str,
    person: str | None,
    out: Path | None,
    page: Path | None,
    simulated: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Turn a score into the absolute risk of falling ill from --age to --to-age, with other causes of death counted.

    The average over scores is the population's incidence. Scores that are not calibrated (no NAME_z in SCORES) are
    standardised by the mean and standard deviation of the table itself, which is said.
    """
    from careloop.genome.risk.scores.placed import place, standardised
    from careloop.record.whole_file import whole_file

    if page is not None and person is None:
        raise click.UsageError("--page needs --person")
    people = standardised(scores, name)
    kept = people.kept(person)
    curve, inputs = _risk_curve(kept["z"].to_numpy(), **given)
    table = kept.with_columns(
        risk=curve.risk[:, -1], low=curve.low[:, -1], high=curve.high[:, -1], relative=curve.relative
    )
    if out is not None:
        with whole_file(out) as draft:
            table.write_csv(draft, separator="\t")
    if page is not None:
        from careloop.report.score_page import PersonsRisk, ShownScore, write_score_page

        found = place(people.table, "z", person)
        shown_risk = PersonsRisk(curve, tuple(inputs.items()))
        shown_score = ShownScore(
            name, found.others, people.said, "standard deviations", found.value, found.percentile, risk=shown_risk
        )
        write_score_page([shown_score], page, person=person, source=scores.name, simulated=simulated)
    ages = [float(curve.ages[0]), float(curve.ages[-1])]
    shown = {
        "ages": ages,
        "average": float(curve.average[-1]),
        "standardised": people.said,
        "inputs": inputs,
        "people": table.height,
        "without_score": people.without,
        "risks": table.to_dicts() if person is not None else [],
        "not_for_clinical_use": True,
    }
    wrote = [f"Wrote {path}" for path in (out, page) if path is not None]
    show(shown, "\n".join([*_risk_lines(table, curve, person), people.said, *wrote, NOT_CLINICAL]), as_json=as_json)


def _risk_curve(
    z: Any,
    *,
    rates: Path,
    ratio: float,
    interval: tuple[float, float] | None,
    age: float,
    to_age: float | None,
    sex: str | None,
) -> tuple[RiskCurve, dict[str, str]]:
    """The curves, and in words what they were computed from."""
    from careloop.genome.risk.absolute_risk import ScoreEffect, absolute_risk
    from careloop.genome.risk.incidence import read_rates

    effect = ScoreEffect.of_ratio(ratio, interval)
    by_age = read_rates(rates, sex=sex)
    curve = absolute_risk(by_age, effect, z, from_age=age, to_age=by_age.end[-1] if to_age is None else to_age)
    words = f"{ratio:g}" + (
        f" (95 % interval {interval[0]:g} to {interval[1]:g})" if interval else ", taken as certain"
    )
    mortality = "as in the table" if by_age.mortality.any() else "none in the table: nobody dies of anything else"
    inputs = {
        "Rates": f"{rates.name}{f', {sex}' if sex else ''}",
        "Hazard ratio a standard deviation": words,
        "Death from other causes": mortality,
    }
    return curve, inputs


def _risk_lines(table: pl.DataFrame, curve: RiskCurve, person: str | None) -> Sequence[str]:
    spans = f"from age {curve.ages[0]:g} to {curve.ages[-1]:g}"
    average = f"{100 * curve.average[-1]:.2f} % on average {spans}"
    if person is None:
        low, middle, high = (100 * float(table["risk"].quantile(share) or 0.0) for share in (0.05, 0.5, 0.95))
        return [
            average,
            f"{table.height:,} people: median {middle:.2f} %, 5 % below {low:.2f} %, 5 % above {high:.2f} %",
        ]
    row = table.row(0, named=True)
    interval = f"{100 * row['low']:.2f} to {100 * row['high']:.2f} %"
    return [
        f"{100 * row['risk']:.2f} % ({interval}) {spans}; {average}",
        f"{row['relative']:.2f} times the average hazard",
    ]
