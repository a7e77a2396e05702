"""A reference panel: people of known groups, and the principal components that tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.population.choice import ChoiceOptions, variants_for_components
from careloop.genome.population.components import Components, principal_components, with_components
from careloop.genome.population.identity.kinship import SECOND_DEGREE, relatedness, unrelated

Progress = Callable[[str, int, int], None]
FEWEST_PEOPLE = 50  # of a panel, under which components say little
_RELATED_VARIANTS = 20_000  # kinship of a panel's people needs no more
_PERSON_NAMES = ("sample_id", "iid", "sample", "sampleid", "id")
_GROUP_NAMES = ("group", "population", "pop", "superpop", "superpopulation", "super_pop", "ancestry")


@dataclass(frozen=True)
class Panel:
    """People of known groups where principal components put them.

    `people`: sample_id, group, PC1, PC2 and so on (scores). `variants`: the columns of VARIANTS. `frequencies` of alt
    (variants,), `loadings` (variants, count), `singular_values` (count,). `left_out`: people and variants, by reason.
    """

    people: pl.DataFrame
    variants: pl.DataFrame
    frequencies: NDArray[np.float64]
    loadings: NDArray[np.float32]
    singular_values: NDArray[np.float64]
    build: str | None
    share: NDArray[np.float64]  # of the variance, (count,)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many components there are."""
        return self.singular_values.size

    @property
    def scores(self) -> NDArray[np.float64]:
        """Where each person lies: (people, count)."""
        return self.people.select(pl.selectors.matches(r"^PC\d+$")).to_numpy()


def make_panel(
    source: GenotypeSource,
    groups: pl.DataFrame,
    *,
    count: int = 10,
    variants: NDArray[np.int64] | None = None,
    choice: ChoiceOptions | None = None,
    progress: Progress | None = None,
) -> Panel:
    """Make a panel of the people whose group is known (`groups`: sample_id, group), without relatives.

    Of relatives up to the second degree one is left out, since a family makes a component of its own. Choose from
    `variants` (rows, by default all) those that other files share: what is not there cannot be projected on.

    Raises:
        InputError: fewer than 50 people with a group, or not enough that varies.
    """
    known = source.samples.with_row_index("row").join(groups, on="sample_id", how="inner", maintain_order="left")
    if known.height < FEWEST_PEOPLE:
        raise InputError(
            f"{source.path}: a reference panel needs {FEWEST_PEOPLE} people with a group; {known.height} of "
            f"{source.samples.height:,} have one: are the sample ids the same in both files?"
        )
    people = known["row"].cast(pl.Int64).to_numpy()
    chosen = variants_for_components(
        source, choice or ChoiceOptions(), variants=variants, samples=people, progress=progress
    )
    thinned = chosen.rows[:: max(1, -(-chosen.rows.size // _RELATED_VARIANTS))]
    found = relatedness(source, min_kinship=SECOND_DEGREE, variants=thinned, samples=people, progress=progress)
    kept = unrelated(known["sample_id"].to_list(), found.pairs.select("sample_id_1", "sample_id_2").iter_rows())
    used = known.filter(pl.col("sample_id").is_in(kept))
    rows = used["row"].cast(pl.Int64).to_numpy()
    made = principal_components(source, count=count, variants=chosen.rows, samples=rows, progress=progress)
    reasons = {
        "people without a group": source.samples.height - known.height,
        "people related to others": known.height - used.height,
        **{f"variants {reason}": number for reason, number in chosen.left_out.items()},
    }
    return panel_of(
        made, used.select("sample_id", "group"), build=source.build, left_out={k: n for k, n in reasons.items() if n}
    )


def panel_of(made: Components, groups: pl.DataFrame, *, build: str | None, left_out: dict[str, int]) -> Panel:
    """A panel of components that are there already, with their people's groups in the same order."""
    people = with_components(made.sample_ids, made.scores)
    people = people.insert_column(1, groups["group"].cast(pl.String()).alias("group"))
    found = (made.frequencies, made.loadings, made.singular_values)
    return Panel(people, made.variants, *found, build, made.share, left_out)


def read_groups(path: Path) -> pl.DataFrame:
    """Read whose group is which: CSV or TSV with columns sample_id (or IID, sample) and group (or population, pop).

    Raises:
        InputError: no such file or columns, or a person is there twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: a table of groups is text (CSV or TSV); this is none") from None
    head = text.split("\n", 1)[0]
    separator = next((mark for mark in ("\t", ",", ";") if mark in head), " ")
    table = pl.read_csv(text.encode(), separator=separator, infer_schema=False, truncate_ragged_lines=True)
    names = {name.lstrip("#").lower(): name for name in table.columns}
    person = next((names[name] for name in _PERSON_NAMES if name in names), None)
    group = next((names[name] for name in _GROUP_NAMES if name in names), None)
    if person is None or group is None:
        raise InputError(f"{path}: a table of groups has columns sample_id and group; got {', '.join(table.columns)}")
    found = table.select(pl.col(person).alias("sample_id"), pl.col(group).alias("group")).drop_nulls()
    if twice := found.filter(pl.col("sample_id").is_duplicated()).height:
        raise InputError(f"{path}: each person has one group; {twice} rows are for a person named more than once")
    return found
