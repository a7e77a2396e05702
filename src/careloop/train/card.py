"""The model card of a package, in Markdown: intended use, data, method, limits."""

from __future__ import annotations

from careloop.train.package import Package
from careloop.train.preprocess import DISTANCE_QUANTILE, WIDENED

MAX_FEATURES_LISTED = 30


def model_card(package: Package, *, figures: str = "") -> str:
    """The text of the package's README.md; `figures` is Markdown with the evaluation's results."""
    parts = [
        f"# {package.name}, version {package.version}\n\n**Not for clinical use.** Research software; no regulator has "
        "reviewed this model.",
        intended_use(package),
        training_data(package),
        method(package),
        "## Figures\n\n" + (figures or "None were given when the package was written; see the run's evaluation.json."),
        limits(package),
        versions(package),
    ]
    return "\n\n".join(parts) + "\n"


def intended_use(package: Package) -> str:
    """What is predicted, when and for whom."""
    return (
        f"## Intended use\n\nThe probability of {package.facts.outcome} within {package.horizon_days:g} days of the "
        "prediction time, from facts known by then, for people like those it was trained on. It says what is likely "
        "under the care that the training patients had; it does not say what a treatment would change."
    )


def training_data(package: Package) -> str:
    """Rows, subjects, events, and the record's version."""
    facts = package.facts
    return (
        f"## Data\n\nRecord version {facts.record_version}: {facts.training_rows:,} training rows of "
        f"{facts.training_subjects:,} people, {facts.training_events:,} with the outcome within the horizon; "
        f"{facts.tuning_rows:,} tuning rows of other people."
    )


def method(package: Package) -> str:
    """Estimator, parameters, preprocessing, calibration and features."""
    parameters = ", ".join(f"{name}={value}" for name, value in sorted(package.section.parameters.items()))
    schemes = {
        "native": "feature values as they are, missing values left to the trees",
        "standardised": "training medians for missing values with 0/1 indicators, log(1 + x) of strongly skewed "
        "non-negative features, then standardised",
        "scaled": "sparse features, training medians for missing values, divided by their standard deviation",
    }
    names = package.preprocessing.names
    listed = ", ".join(f"`{name}`" for name in names[:MAX_FEATURES_LISTED])
    more = f" and {len(names) - MAX_FEATURES_LISTED} more in package.json" if len(names) > MAX_FEATURES_LISTED else ""
    lines = [
        f"Estimator `{package.section.kind}` with {parameters or 'its default parameters'}; "
        f"{schemes[package.preprocessing.scheme]}.",
        "Rows censored before the horizon are represented by inverse probability of censoring weights (classifiers) or "
        "by their follow-up (survival models).",
        *package.facts.notes,
        *text_encoder(package),
        f"{len(names)} features: {listed}{more}.",
    ]
    return "## Method\n\n" + "\n\n".join(lines)


def text_encoder(package: Package) -> list[str]:
    """Where notes are read, which text encoder reads them."""
    encoder = None if package.timelines is None else package.timelines.encoder
    if encoder is None:
        return []
    return [
        f"Notes are read through the text encoder `{encoder.name}` (SHA-256 `{encoder.sha256}`), which is not part of "
        "this package and has to be on the machine that predicts."
    ]


def limits(package: Package) -> str:
    """What the model must not be trusted with."""
    population = package.population
    return (
        "## Limits\n\nPredictions for people outside the training population are marked as abstained with the reason: "
        f"a feature outside its training range by more than {WIDENED:.0%} of that range, more than "
        f"{population.missing_limit:.0%} of the features missing, or values that together lie further from the "
        f"training mean than {DISTANCE_QUANTILE:.1%} of the training rows (root mean square of standardised values "
        f"above {population.distance_limit:.2f}). "
        "The intervals speak of calibration in people like the tuning rows, not of one person. Another hospital, "
        "another decade or another way of coding needs its own evaluation first."
    )


def versions(package: Package) -> str:
    """Library versions that made the package."""
    rows = "\n".join(f"- {name} {number}" for name, number in sorted(package.facts.libraries.items()))
    return f"## Versions\n\n{rows}"
