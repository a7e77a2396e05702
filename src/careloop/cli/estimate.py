"""The command estimate: how much data and compute a study or a prediction model needs, before training starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, cli, json_option, on_option, record_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from careloop.evaluate.learning_curve import LearningCurve
    from careloop.evaluate.sample_size import SampleSize
    from careloop.study.estimate import StudyEstimate
    from careloop.study.learning_curves import ModelCurve

# What each type of outcome must be told, and what it may be told; names as the options have them.
NEEDS = {
    "binary": ("parameters", "prevalence"),
    "time-to-event": ("parameters", "rate", "timepoint", "mean_follow_up"),
    "continuous": ("parameters", "mean", "sd", "r2"),
}
TAKES = {
    "binary": ("r2", "nagelkerke_r2", "c_statistic", "mean_error", "shrinkage"),
    "time-to-event": ("r2", "nagelkerke_r2", "shrinkage"),
    "continuous": ("shrinkage",),
}
FOR_A_STUDY = ("record_path", "epochs", "plot")
PICTURES = (".png", ".svg", ".pdf")


@cli.command()
@click.argument("study", type=FOLDER, required=False)
@record_option(required=False)
@click.option("--epochs", type=float, help="With STUDY: passes over the data, for the hours; default: 10.")
@click.option("--plot", type=FOLDER, help="With STUDY: also draw the learning curves (.png, .svg or .pdf).")
@click.option("--type", "kind", type=click.Choice(list(NEEDS)), help="Without STUDY: the type of outcome.")
@click.option("--parameters", type=int, help="Candidate parameters of the model.")
@click.option("--prevalence", type=float, help="binary: share of patients with the outcome.")
@click.option("--rate", type=float, help="time-to-event: events a unit of time.")
@click.option("--timepoint", type=float, help="time-to-event: when the risk is predicted, in the same unit.")
@click.option("--mean-follow-up", type=float, help="time-to-event: in the same unit.")
@click.option("--mean", type=float, help="continuous: mean of the outcome.")
@click.option("--sd", type=float, help="continuous: standard deviation of the outcome.")
@click.option("--r2", type=float, help="R2 expected (Cox and Snell's, if not continuous).")
@click.option("--nagelkerke-r2", type=float, help="R2 expected as a share of the largest possible; default: 0.15.")
@click.option("--c-statistic", type=float, help="binary: C statistic (AUROC) expected, instead of an R2.")
@click.option("--shrinkage", type=float, help="Expected shrinkage to be reached; default: 0.9.")
@click.option("--mean-error", type=float, help="binary: also limit the mean absolute error of risks, such as 0.05.")
@on_option
@json_option
def estimate(study: Path | None, kind: str | None, on: str, as_json: bool, **settings: Any) -> None:
    r"""Say how much data and compute is needed, before training starts.

    \b
    careloop estimate STUDY --record RECORD
      counts of the cohort beside the minimum sample size (Riley et al.), learning curves of logistic regression and
      LightGBM from the training rows, judged on the tuning rows (the held-out ones stay unseen), with what 2 and 4
      times the patients would bring, and memory and hours for networks of five sizes on CPU, one and eight GPUs
    careloop estimate --type binary --parameters 24 --prevalence 0.174 --c-statistic 0.89
      the minimum sample size alone, without a record
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if (study is None) == (kind is None):
        raise click.UsageError("give either STUDY with --record, or --type")
    if kind is not None:
        _check_options(f"--type {kind}", given, needs=NEEDS[kind], takes=TAKES[kind])
        size = _sample_size(kind, given)
        show(_plain(size), _size_text(size), as_json=as_json)
    if study is not None:
        _check_options("STUDY", given, needs=FOR_A_STUDY[:1], takes=FOR_A_STUDY[1:])
        _show_study(study, given, on=on, as_json=as_json)


def _check_options(what: str, given: dict[str, Any], *, needs: tuple[str, ...], takes: tuple[str, ...]) -> None:
    """UsageError for an option that is missing, or does not go with the others."""

    def written(name: str) -> str:
        return f"--{name.removesuffix('_path').replace('_', '-')}"

    for name in needs:
        if name not in given:
            raise click.UsageError(f"{what} needs {written(name)}")
    for name in given:
        if name not in {*needs, *takes}:
            raise click.UsageError(f"{written(name)} does not go with {what}")


def _show_study(path: Path, given: dict[str, Any], *, on: str, as_json: bool) -> None:
    from careloop.record import Record
    from careloop.study import Study
    from careloop.study.estimate import estimate_study

    plot, epochs = given.get("plot"), given.get("epochs", 10.0)
    if plot is not None and plot.suffix not in PICTURES:
        raise click.UsageError(f"--plot draws {', '.join(PICTURES)} files, got {plot.name}")
    study, record = Study.read(path), Record.open(given["record_path"])
    with counter() as progress:
        found = estimate_study(study, record, on=on, epochs=epochs, progress=progress)
    text = "\n".join(_study_text(found))
    if plot is not None:
        _draw(found.curves, plot)
        text += f"\nWrote {plot}."
    show({**_plain(found), "plot": str(plot) if plot else None}, text, as_json=as_json)


def _sample_size(kind: str, given: dict[str, Any]) -> SampleSize:
    """Riley's minimum from the options given."""
    from careloop.evaluate import sample_size as riley

    parameters, shrinkage = given["parameters"], given.get("shrinkage", riley.SHRINKAGE)
    if kind == "continuous":
        return riley.continuous_sample_size(
            parameters, given["r2"], mean=given["mean"], standard_deviation=given["sd"], shrinkage=shrinkage
        )
    if kind == "binary":
        r2 = _r2(given, riley.max_r2_binary(given["prevalence"]))
        error = given.get("mean_error")
        return riley.binary_sample_size(parameters, given["prevalence"], r2, shrinkage=shrinkage, mean_error=error)
    rate, follow_up = given["rate"], given["mean_follow_up"]
    r2 = _r2(given, riley.max_r2_time_to_event(rate, follow_up))
    return riley.time_to_event_sample_size(
        parameters, rate, follow_up, timepoint=given["timepoint"], r2=r2, shrinkage=shrinkage
    )


def _r2(given: dict[str, Any], largest: float) -> float:
    """The Cox-Snell R2 that the options say, of which at most one may be given."""
    from careloop.evaluate.sample_size import ASSUMED_SHARE, r2_from_c_statistic

    ways = [name for name in ("r2", "nagelkerke_r2", "c_statistic") if name in given]
    if len(ways) > 1:
        raise click.UsageError(f"give one of {' and '.join('--' + name.replace('_', '-') for name in ways)}")
    if ways == ["r2"]:
        return float(given["r2"])
    if ways == ["c_statistic"]:
        return r2_from_c_statistic(given["c_statistic"], given["prevalence"])
    return float(given.get("nagelkerke_r2", ASSUMED_SHARE)) * largest


def _plain(found: Any) -> dict[str, Any]:
    from careloop.evaluate import to_json

    content: dict[str, Any] = to_json(found)
    return content


def _size_text(size: SampleSize) -> str:
    """Riley's minimum with all its criteria."""
    from careloop.report.summary import table

    rows = [(c.name, f"{c.n:,}", f"{c.shrinkage:.3f}") for c in size.criteria]
    drawn = table(["criterion", "patients", "shrinkage expected"], rows, title="Minimum sample size (Riley et al.)")
    if size.events is None:
        return f"{drawn}{size.n:,} patients for {size.parameters} parameters, with R2 {size.r2:.3g}."
    return (
        f"{drawn}{size.n:,} patients with {math.ceil(size.events):,} events for {size.parameters} parameters: "
        f"{size.events_per_parameter:.1f} events a parameter,\nwith R2 {size.r2:.3g} (Cox and Snell), "
        f"{size.nagelkerke_r2:.0%} of the largest possible {size.max_r2:.3g}."
    )


def _study_text(found: StudyEstimate) -> Iterator[str]:
    """What a study has and needs, as tables and sentences."""
    from careloop.report.summary import table

    columns = ["rows", "number", "subjects", "events", "risk", "events a person-year", "mean follow-up, years"]
    counts = [
        (c.split, f"{c.rows:,}", f"{c.subjects:,}", f"{c.events:,}", "" if c.risk is None else f"{c.risk:.1%}",
         f"{c.rate_per_year:.3g}", f"{c.mean_follow_up_years:.2f}")
        for c in found.counts
    ]  # fmt: skip
    yield table(columns, counts, title=f"{found.study}: events within the horizon, censoring accounted for in the risk")
    yield _floor_table(found)
    for curve in found.curves:
        yield "\n".join([f"Learning curve of {curve.model}:", *(f"- {sentence}" for sentence in curve.words), ""])
    yield _network_table(found)
    tokens = "about 20 events a parameter are compute-optimal, and up to 4 epochs nearly as good as new events"
    yield "\n".join(
        [
            "Assumed, to plan by orders of magnitude:",
            *(f"- {assumption}" for assumption in found.assumptions),
            f"- {tokens} (Hoffmann et al. 2022; Muennighoff et al. 2023); with far too few, take the smallest network,",
            "  stop it early, and compare it with LightGBM",
        ]
    )


def _floor_table(found: StudyEstimate) -> str:
    from careloop.report.summary import table

    patients = found.counts[0].subjects
    columns = ["assumed", "patients needed", "of which there are", "because of", "parameters that these would allow"]
    rows = [
        (f.assumption, f"{f.size.n:,}", f"{patients:,} ({patients / f.size.n:.0%})", f.size.deciding.name,
         f.parameters_allowed)
        for f in found.floors
    ]  # fmt: skip
    title = (
        f"Minimum sample size (Riley et al.) for {found.parameters} parameters of {found.features} candidate features, "
        "and the training subjects"
    )
    return table(columns, rows, title=title)


def _network_table(found: StudyEstimate) -> str:
    from careloop.report.summary import table

    work = found.work
    title = (
        f"Transformers on {work.tokens:,} events of {work.vocabulary:,} codes, {work.epochs:g} epochs, "
        f"{work.batch_tokens:,} events a step, {work.context:,} in a history"
    )
    devices = list(found.networks[0].hours)
    columns = ["size", "width, layers, heads", "parameters", "operations an event", "memory to predict"]
    columns += [f"memory, time to train: {device}" for device in devices] + ["events a parameter"]
    rows = [
        (n.size, f"{n.shape.width}, {n.shape.layers}, {n.shape.heads}", f"{n.parameters:,}", f"{n.flops_a_token:.2g}",
         _bytes(n.prediction_bytes), *(f"{_bytes(n.training_bytes[d])}, {_time(n.hours[d])}" for d in devices),
         f"{n.tokens_a_parameter:.2g}: {n.hint}")
        for n in found.networks
    ]  # fmt: skip
    return table(columns, rows, title=title)


def _bytes(number: float) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def _time(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    if hours >= 1 / 60:
        return f"{hours * 60:.1f} min"
    return f"{hours * 3600:.0f} s" if hours * 3600 >= 1 else "< 1 s"


def _draw(curves: tuple[ModelCurve, ...], path: Path) -> None:
    """Draw each model's AUROC against the number of patients."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from careloop.report.charts import COLOURS, STYLE

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(curves), 4), layout="constrained")
        every = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
        for colour, axes, one in zip(COLOURS, every, curves, strict=False):
            axes.set(title=one.model, xlabel="training patients")
            if one.curve is None:
                axes.text(0.5, 0.5, "no learning curve", transform=axes.transAxes, ha="center")
            else:
                _draw_curve(axes, one.curve, colour)
        every[0].set(ylabel="AUROC on the tuning rows")
        handles = every[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=max(1, len(handles[0])))
        figure.savefig(path, dpi=150)


def _draw_curve(axes: Any, curve: LearningCurve, colour: str) -> None:
    """The law with its band, dashed beyond the patients there are, and the mean AUROC of each size."""
    import numpy as np

    from careloop.report.charts import GREY

    band = {name: np.array(part, dtype=float) for name, part in vars(curve.band).items()}
    sizes, errors = (np.array([row[i] for row in curve.seen]) for i in (0, 1))
    now = sizes[-1]
    axes.fill_between(band["x"], 1 - band["high"], 1 - band["low"], color=colour, alpha=0.15, linewidth=0, label="95 %")
    for start, end, style, label in ((sizes[0], now, "-", "power law"), (now, band["x"][-1], "--", "looking ahead")):
        x = np.geomspace(start, end)
        axes.plot(x, 1 - curve.law(x), color=colour, linewidth=1.4, linestyle=style, label=label)
    axes.plot(sizes, 1 - errors, "o", color=colour, markersize=4, label="models trained, mean")
    axes.axvline(now, color=GREY, linewidth=1, linestyle=":")
    axes.set_xscale("log")
    ticks = [*sizes[:: max(1, len(sizes) // 2)], now, round(band["x"][-1])]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
