"""A page on what became of predictions and plan: verdicts in words, month by month, alarms, recalibration, effects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from careloop import __version__
from careloop.report import charts
from careloop.report.outcome_charts import evidence_paths, observed_expected_by_month
from careloop.report.report import signed, with_interval

Json = Mapping[str, Any]


def write_outcome_page(later: Json, path: Path, *, study: str, primary: str) -> None:
    """Write the page in HTML to `path`; `later` is what `careloop outcome --json` prints for the study.

    The primary model's charts are shown, those of the others folded.
    """
    following = later["following"]
    environment = Environment(
        loader=PackageLoader("careloop.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"figure": with_interval, "signed": signed}
    with charts.style():
        drawn = {
            _name(months): {
                "months": observed_expected_by_month(months["months"], months["model"]),
                "evidence": evidence_paths(stream, stream["model"]),
            }
            for months, stream in zip(following["months"], following["streams"], strict=True)
        }
    page = environment.get_template("outcome.html.j2").render(
        version=__version__,
        study=study,
        later=later,
        following=following,
        streams={_name(stream): stream for stream in following["streams"]},
        primary=[_name(months) for months in following["months"] if months["model"] == primary],
        others=[_name(months) for months in following["months"] if months["model"] != primary],
        charts=drawn,
    )
    path.write_text(page, encoding="utf-8")


def _name(model: Json) -> str:
    return f"{model['model']} ({model['model_version']})"
