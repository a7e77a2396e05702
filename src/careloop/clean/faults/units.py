"""Units: one canonical UCUM unit a code, and the conversion to it, by molar mass or valence where needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import polars as pl

from careloop.clean.findings import findings, together

# ucumvert's parser keeps state: two threads at once make valid units fail, and the failure would be remembered.
PARSING = Lock()
TABLES = Path(__file__).parent / "tables"
RULE = "unit"
A1C = "hemoglobin A1c"
# Hoelzel et al. 2004, Clin Chem 50:166, and the consensus of 2010: IFCC mmol/mol = 10.93 x NGSP % - 23.50.
A1C_SLOPE, A1C_INTERCEPT = 10.93, -23.50
# Two spellings of one unit differ by rounding only, and are not worth a changed value.
SAME = 1e-9
# Capitals of old systems are read as g/L first, as a count of cells where grams make no sense for the code.
_SECOND_READING = {"G/L": "10*9/L", "G/l": "10*9/L", "T/L": "10*12/L", "T/l": "10*12/L"}


@dataclass(frozen=True)
class Analyte:
    """What a code measures: molar mass in g/mol and valence where they mean something, and its canonical unit."""

    name: str
    molar_mass: float | None
    valence: int | None
    unit: str


@dataclass(frozen=True)
class Conversion:
    """value in the new unit = scale x value + offset."""

    scale: float
    offset: float = 0.0

    def __call__(self, value: np.ndarray) -> np.ndarray:
        """The values in the new unit."""
        return value * self.scale + self.offset

    @property
    def inverse(self) -> Conversion:
        """The conversion back."""
        return Conversion(1 / self.scale, -self.offset / self.scale)

    @property
    def is_identity(self) -> bool:
        """True where values stay as they are."""
        return abs(self.scale - 1) < SAME and abs(self.offset) < SAME


@dataclass(frozen=True)
class _Parsed:
    """A unit in base units (kg, m, s, mol, K): base = scale x value + offset; powers of mass, amount and the rest."""

    scale: float
    offset: float
    mass: int
    amount: int
    rest: tuple[tuple[str, int], ...]
    equivalents: bool  # counts charges (mol of charge), so that the valence matters
    annotation: bool  # nothing but a word in braces: {INR}, {score}


@lru_cache(maxsize=1)
def analytes() -> Mapping[str, Analyte]:
    """Codes whose analyte and unit are known: LOINC codes of common laboratory tests and vital signs."""
    rows = pl.read_csv(TABLES / "analytes.csv", infer_schema=False).iter_rows(named=True)
    return {
        row["code"]: Analyte(
            row["analyte"],
            float(row["molar_mass"]) if row["molar_mass"] else None,
            int(row["valence"]) if row["valence"] else None,
            row["unit"],
        )
        for row in rows
    }


@lru_cache(maxsize=100_000)
def ucum(unit: str) -> str:
    """Return the UCUM spelling of a unit as clinics write it: `mmHg` is `mm[Hg]`, `K/uL` is `10*3/uL`.

    What is no known spelling comes back as it is, without surrounding blanks.
    """
    text = re.sub(r"\s+", " ", unit.strip().replace("µ", "u").replace("μ", "u").replace("³", "3"))
    text = re.sub(r"mc(g|L|l)\b", r"u\1", text, flags=re.IGNORECASE)
    lower = text.lower()
    if lower in _spellings():
        return _spellings()[lower]
    power = re.fullmatch(r"x? ?10 ?(?:\^|\*\*?|e|\*e|\() ?(\d+)\)? ?/ ?(ul|mm3|cumm|l|ml)", lower)
    if power or (power := re.fullmatch(r"(1000|1000000) ?/ ?(ul|mm3|cumm)", lower)):
        exponent = str(len(power[1]) - 1) if power[1].startswith("100") else power[1]
        volume = {"l": "L", "ml": "mL"}.get(power[2], "uL")
        return f"10*{exponent}/{volume}"
    text = re.sub(r"(?<![\[\w])([mukn]?)IU\b(?!\])", r"\1[IU]", text).replace(" ", "")
    if _parse(text) is None:
        # Whole units in capitals are a habit of old laboratory systems; UCUM itself tells m from M.
        lower = re.sub(r"(?<=/)l\b", "L", text.lower()).replace("dl", "dL").replace("ml", "mL").replace("ul", "uL")
        return lower if _parse(lower) is not None else unit.strip()
    return re.sub(r"(?<=/)([dmuf]?)l\b", r"\1L", text)


def conversion(unit: str, into: str, analyte: Analyte | None = None) -> Conversion | None:
    """Return the conversion from one unit (as written) into another; None where there is none.

    Amount and mass meet by the analyte's molar mass, charge and amount by its valence; haemoglobin A1c in % (NGSP) and
    mmol/mol (IFCC) by the master equation.
    """
    first, second = ucum(unit), ucum(into)
    if first == second:
        return Conversion(1.0)
    if analyte is not None and analyte.name == A1C and {first, second} == {"%", "mmol/mol"}:
        to_ifcc = Conversion(A1C_SLOPE, A1C_INTERCEPT)
        return to_ifcc if second == "mmol/mol" else to_ifcc.inverse
    a, b = _parse(first), _parse(second)
    found = None if a is None or b is None else _between(a, b, analyte)
    if found is None and unit.strip() in _SECOND_READING:
        return conversion(_SECOND_READING[unit.strip()], into, analyte)
    return found


def canonical_units(counts: pl.DataFrame, metadata: pl.DataFrame | None = None) -> dict[str, str]:
    """Return the unit each code is brought to: the codes table's, else the analyte's, else the record's most frequent.

    Args:
        counts: code, unit (as written, null allowed) and count.
        metadata: code and unit (`Record.code_metadata`).
    """
    known = counts.drop_nulls("unit").with_columns(
        unit=pl.col("unit").map_elements(ucum, return_dtype=pl.String(), skip_nulls=True)
    )
    frequent = known.group_by("code", "unit").agg(pl.col("count").sum()).sort("code", "count", "unit")
    units = dict(frequent.group_by("code", maintain_order=True).last().select("code", "unit").iter_rows())
    units |= {code: analyte.unit for code, analyte in analytes().items()}
    if metadata is not None:
        units |= dict(metadata.drop_nulls("unit").select("code", "unit").iter_rows())
    return units


def unit_table(pairs: pl.DataFrame, canonical: Mapping[str, str]) -> pl.DataFrame:
    """Return how each (code, unit as written) is brought to the code's canonical unit.

    Columns: code, unit, into, scale, offset; scale is null where the unit cannot be converted. Pairs that are canonical
    already are left out.
    """
    rows: dict[str, list[Any]] = {"code": [], "unit": [], "into": [], "scale": [], "offset": []}
    for code, unit in pairs.drop_nulls("unit").select("code", "unit").unique().sort("code", "unit").iter_rows():
        into = canonical.get(code)
        if into is None or unit == into:
            continue
        found = conversion(unit, into, analytes().get(code))
        for name, value in zip(rows, (code, unit, into, found and found.scale, found and found.offset), strict=True):
            rows[name].append(value)
    schema = {"code": pl.String(), "unit": pl.String(), "into": pl.String()}
    return pl.DataFrame(rows, schema={**schema, "scale": pl.Float64(), "offset": pl.Float64()})


def find_units(events: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Return findings of rule `unit`: values changed to the canonical unit, or flagged where no conversion is known."""
    rows = events.filter(pl.col("numeric_value").is_not_null()).join(table, on=["code", "unit"], how="inner")
    after = (pl.col("numeric_value").cast(pl.Float64()) * pl.col("scale") + pl.col("offset")).cast(pl.Float32())
    # A value that the conversion carries beyond 32 bits cannot be stored, and is no measurement either.
    able = after.is_finite().fill_null(False)
    rows = rows.with_columns(after_numeric_value=after, after_unit=pl.col("into"), able=able)
    rows = rows.select("row", "after_numeric_value", "after_unit", "able")
    return together(
        [
            findings(rows.filter("able").drop("able"), RULE, "changed"),
            findings(rows.filter(~pl.col("able")).select("row"), RULE, "flagged"),
        ]
    )


def _between(a: _Parsed, b: _Parsed, analyte: Analyte | None) -> Conversion | None:
    scale = _bridge(a, b, analyte) if a.rest == b.rest else None
    if scale is None:
        return None
    found = Conversion(_tidy(scale * a.scale / b.scale), _tidy((scale * a.offset - b.offset) / b.scale))
    # A ratio or score without unit is no percentage: prothrombin "70 %" is no INR of 0.7.
    return None if (a.annotation or b.annotation) and not found.is_identity else found


def _bridge(a: _Parsed, b: _Parsed, analyte: Analyte | None) -> float | None:
    """The factor between base units that molar mass and valence make; None where the dimensions do not meet."""
    scale = 1.0
    if a.equivalents != b.equivalents and (a.amount or b.amount):
        if analyte is None or analyte.valence is None:
            return None
        scale = 1 / analyte.valence if a.equivalents else float(analyte.valence)
    moles = a.amount - b.amount
    if moles == 0 and a.mass == b.mass:
        return scale
    if moles != b.mass - a.mass or analyte is None or analyte.molar_mass is None:
        return None
    return float(scale * (analyte.molar_mass / 1000) ** moles)


def _tidy(value: float) -> float:
    """Drop the last digits, which floating-point unit arithmetic leaves wrong (0.1 instead of 0.09999999999999999)."""
    return float(f"{value:.14g}")


@lru_cache(maxsize=1)
def _spellings() -> Mapping[str, str]:
    return dict(pl.read_csv(TABLES / "spellings.csv", infer_schema=False).iter_rows())


@lru_cache(maxsize=1)
def _registry() -> Any:
    from ucumvert import PintUcumRegistry  # on first use: it takes a second to load

    return PintUcumRegistry()


@lru_cache(maxsize=100_000)
def _parse(unit: str) -> _Parsed | None:
    # Annotations say what is counted, not how much; IU of an enzyme are its U, and pH is a number.
    bare = re.sub(r"[./]\{[^}]*\}|\{[^}]*\}", "", unit).replace("[pH]", "1")
    bare = re.sub(r"\[[iI]U\]", "U", bare)
    if not bare:
        return _Parsed(1.0, 0.0, 0, 0, (), equivalents=False, annotation=True)
    try:
        with PARSING:
            parsed = _registry().from_ucum(bare)
            magnitude, units = getattr(parsed, "magnitude", 1), getattr(parsed, "units", parsed)
            zero, one = (_registry().Quantity(x * magnitude, units).to_base_units().magnitude for x in (0.0, 1.0))
            powers = {name.strip("[]"): power for name, power in parsed.dimensionality.items()}
    except Exception:  # the parser raises lark's, pint's and its own errors for what is not UCUM
        return None
    if any(power != int(power) for power in powers.values()):
        return None
    mass, amount = int(powers.pop("mass", 0)), int(powers.pop("substance", 0))
    fields = [token for token in ("[HPF]", "[LPF]", "[pH]") if token in unit]
    rest = sorted([*((name, int(power)) for name, power in powers.items()), *((name, 1) for name in fields)])
    counts_charges = re.search(r"(?<![a-zA-Z])[munk]?eq\b", bare) is not None
    return _Parsed(one - zero, zero, mass, amount, tuple(rest), equivalents=counts_charges, annotation=False)
