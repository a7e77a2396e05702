"""A recipe: the columns that training rows justified, with units and training ranges, as plain JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from careloop import InputError

RECIPE_FORMAT = 1
# Above this many columns whose absent value is 0, CSR is far smaller than a dense matrix; below it, dense is faster.
WIDE_COLUMNS = 2000

Kind = Literal["age", "static_value", "static_category", "static_present", "value", "code"]
ZERO_IF_ABSENT = {"present", "count", "category"}


@dataclass(frozen=True)
class Column:
    """One column of the matrix and what training rows showed of it.

    `description` is what the record says of the code. `window_days` is null for the whole record and for columns
    without a window. `low` and `high` are the 0.1 and 99.9 percentiles. Ranges and median are over training rows with
    a value; `missing_share` is the share without.
    """

    name: str
    kind: Kind
    code: str
    aggregation: str
    window_days: float | None = None
    unit: str | None = None
    category: str | None = None
    description: str = ""
    median: float | None = None
    low: float | None = None
    high: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    missing_share: float = 0.0

    @property
    def absent(self) -> float:
        """The cell of a row without any such fact: 0 for counts and indicators, NaN for values and times."""
        return 0.0 if self.aggregation in ZERO_IF_ABSENT else float("nan")


@dataclass(frozen=True)
class Recipe:
    """How to turn a history into a row: columns in order, and notes on what was left out."""

    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    training_rows: int = 0
    training_subjects: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in the order of the matrix."""
        return tuple(column.name for column in self.columns)

    @property
    def layout(self) -> Literal["dense", "sparse"]:
        """`sparse` (CSR) for a wide code space, else `dense`; the rule is `is_wide`."""
        return "sparse" if is_wide(self.columns) else "dense"

    def keep(self, names: Iterable[str]) -> Recipe:
        """The same recipe with only these columns, in the recipe's order."""
        wanted = set(names)
        unknown = sorted(wanted - set(self.names))
        if unknown:
            raise InputError(f"recipe: a kept column must be one of the recipe's, got {unknown[0]!r}")
        return dataclasses.replace(self, columns=tuple(c for c in self.columns if c.name in wanted))

    def to_json(self) -> str:
        """The recipe as a JSON text; `from_json` gives an equal recipe."""
        return json.dumps({"format": RECIPE_FORMAT, **dataclasses.asdict(self)}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` wrote; InputError if it is no recipe or was written by a newer careloop."""
        try:
            content: dict[str, Any] = json.loads(text)
            version = content.pop("format")
            if version > RECIPE_FORMAT:
                raise InputError(
                    f"recipe: this careloop reads format {RECIPE_FORMAT}, got {version}; install a newer careloop"
                )
            columns = tuple(Column(**column) for column in content.pop("columns"))
            return cls(columns=columns, notes=tuple(content.pop("notes")), **content)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise InputError(f"recipe: not a careloop recipe ({error}); write it again with Recipe.to_json") from error


def is_wide(columns: Sequence[Column]) -> bool:
    """Whether a matrix of these columns is CSR.

    CSR when more than `WIDE_COLUMNS` columns are 0 where absent and they outnumber those that are NaN where absent
    (CSR stores every NaN, at twice the bytes of a dense cell).
    """
    zero_if_absent = sum(column.absent == 0 for column in columns)
    return zero_if_absent > max(WIDE_COLUMNS, len(columns) / 2)


def window_name(window: float | Literal["all"]) -> str:
    """`365d` for 365 days, `all` for the whole record."""
    return "all" if window == "all" else f"{window:.10g}d"
