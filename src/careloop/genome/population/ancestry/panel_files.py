"""A reference panel as a folder: two tables and a short description, without anybody's genotypes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl

from careloop import InputError
from careloop.genome.genotypes.source import VARIANTS
from careloop.genome.population.ancestry.panel import Panel

FORMAT = "careloop reference panel 1"
_PEOPLE, _VARIANTS, _ABOUT = "people.parquet", "variants.parquet", "panel.json"


def write_panel(panel: Panel, folder: Path) -> None:
    """Write a panel to a new folder, whole or not at all.

    Raises:
        InputError: the folder is there already.
    """
    if folder.exists():
        raise InputError(f"{folder}: is there already; name a new folder for the panel")
    draft = folder.with_name(f".unfinished.{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        panel.people.write_parquet(draft / _PEOPLE)
        loadings = {f"loading_{number + 1}": column for number, column in enumerate(panel.loadings.T)}
        panel.variants.with_columns(pl.Series("frequency", panel.frequencies)).with_columns(
            **_series(loadings)
        ).write_parquet(draft / _VARIANTS)
        about = {
            "format": FORMAT,
            "build": panel.build,
            "singular_values": panel.singular_values.tolist(),
            "share": panel.share.tolist(),
            "left_out": panel.left_out,
        }
        (draft / _ABOUT).write_text(json.dumps(about, indent=2), encoding="utf-8")
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read_panel(folder: Path) -> Panel:
    """Read a panel that `write_panel` wrote.

    Raises:
        InputError: no such folder, or none of a panel.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if about.get("format") != FORMAT:
            raise InputError(f"{folder}: a panel of the format {FORMAT!r} is needed, got {about.get('format')!r}")
        people, variants = pl.read_parquet(folder / _PEOPLE), pl.read_parquet(folder / _VARIANTS)
        loadings = variants.select(pl.selectors.starts_with("loading_")).to_numpy().astype(np.float32)
        singular_values, share = np.array(about["singular_values"], float), np.array(about["share"], float)
        if loadings.shape[1] != singular_values.size:
            raise InputError(f"{folder}: its tables do not fit together; make the panel again")
        return Panel(
            people,
            variants.select(VARIANTS.names()),
            variants["frequency"].to_numpy(),
            loadings,
            singular_values,
            about["build"],
            share,
            about["left_out"],
        )
    except FileNotFoundError:
        raise InputError(f"{folder}: not a folder of a reference panel; make one with --save-panel") from None
    except (ValueError, KeyError, AttributeError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"{folder}: the reference panel cannot be read; make it again ({type(error).__name__})"
        ) from None


def _series(columns: dict[str, np.ndarray]) -> dict[str, pl.Series]:
    return {name: pl.Series(name, np.ascontiguousarray(column)) for name, column in columns.items()}
