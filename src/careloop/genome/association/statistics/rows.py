"""Rows of a file of summary statistics in the standard names: numbers, what follows from others, and broken rules."""

from __future__ import annotations

import numpy as np
import polars as pl

from careloop.genome.association.statistics.columns import STATISTICS

# Tests of one allele's effect; other rows of a file (covariates, two degrees of freedom) are left out and counted.
ADDITIVE = ("ADD", "ADD-FIRTH", "ADD-INT", "FIRTH", "LOGISTIC", "LINEAR")
_NUMBERED = {"23": "X", "24": "Y", "25": "MT", "26": "MT", "M": "MT"}  # GWAS-SSF and PLINK
_NUMBERS = (
    *("beta", "odds_ratio", "hazard_ratio", "standard_error", "z", "effect_allele_frequency", "p_value"),
    *("neg_log_10_p_value", "n", "effective_n", "n_cases", "n_controls"),
)


def additive(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Rows that test one allele's effect, and how many others there are of each test."""
    if "test" not in rows.columns:
        return rows, {}
    tested = rows["test"].is_in(ADDITIVE) | rows["test"].is_null()
    others = rows.filter(~tested)["test"].value_counts().sort("test")
    return rows.filter(tested), dict(others.iter_rows())


def placed(rows: pl.DataFrame) -> pl.DataFrame:
    """Fill what is absent from a variant's name, chr:pos:ref:alt or chr_pos_ref_alt."""
    parts = rows["place"].str.replace_all("_", ":").str.split_exact(":", 3)
    names = {"field_0": "chromosome", "field_1": "base_pair_location", "field_2": "other_allele"}
    named = parts.struct.unnest().rename({**names, "field_3": "effect_allele"}).with_columns(rows["place"])
    absent = [name for name in named.columns if name not in rows.columns]
    if "variant_id" not in rows.columns and "rsid" not in rows.columns:
        rows = rows.with_columns(pl.col("place").alias("variant_id"))
    return rows.with_columns(named.select(absent)) if absent else rows


def numbers(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """Numbers in place of text, and the first column of each row that holds no number where one is due."""
    names = [name for name in _NUMBERS if name in rows.columns]
    unreadable = pl.coalesce(
        pl.lit(None, pl.String),
        *(
            pl.when(pl.col(name).is_not_null() & pl.col(name).cast(pl.Float64, strict=False).is_null()).then(
                pl.lit(f"{name} is no number")
            )
            for name in names
        ),
    )
    texts = {"p_text": pl.col("p_value")} if "p_value" in names else {}
    parsed = [pl.col(name).cast(pl.Float64, strict=False) for name in names]
    return rows.with_columns(**texts).with_columns(parsed), rows.select(unreadable.alias("reason"))["reason"]


def in_standard(rows: pl.DataFrame, n: int | None) -> pl.DataFrame:
    """The columns of `STATISTICS` from those of the file, by whichever of them it has."""
    has = set(rows.columns)
    beta = pl.coalesce(
        *(pl.col(name) for name in ("beta",) if name in has),
        *(pl.col(name).log() for name in ("odds_ratio", "hazard_ratio") if name in has),
        pl.lit(None, pl.Float64),
    )
    other = _text("other_allele", has)
    if "reference" in has:
        is_alt = pl.col("effect_allele") == pl.col("alternative")
        other = pl.when(is_alt).then(pl.col("reference")).otherwise(pl.col("alternative")).str.to_uppercase()
    cases = pl.col("n_cases") + pl.col("n_controls") if {"n_cases", "n_controls"} <= has else pl.lit(None, pl.Float64)
    counted = [pl.col(name) for name in ("n", "effective_n") if name in has]
    chromosome = _text("chromosome", has).str.replace("^CHR", "").str.strip_chars_start("0").replace(_NUMBERED)
    table = rows.select(
        chromosome.alias("chromosome"),
        _text("base_pair_location", has).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False),
        _text("effect_allele", has),
        other.alias("other_allele"),
        beta.alias("beta"),
        _number("standard_error", has),
        _number("effect_allele_frequency", has),
        _number("p_value", has),
        _number("neg_log_10_p_value", has),
        pl.coalesce(*(pl.col(name) for name in ("rsid", "variant_id") if name in has), pl.lit(None, pl.String)).alias(
            "variant_id"
        ),
        pl.coalesce(*counted, cases, pl.lit(n, pl.Float64)).round().cast(pl.Int64, strict=False).alias("n"),
        _text("test", has),
        _text("error", has),
        *(pl.col(name) if name in has else pl.lit(None, dtype).alias(name) for name, dtype in _ASIDE.items()),
    )
    return _completed(table).select(STATISTICS.names()).cast(STATISTICS)


_ASIDE = {"p_text": pl.String, "z": pl.Float64}  # needed to complete a row, not kept


def _text(name: str, has: set[str]) -> pl.Expr:
    found = pl.col(name).str.strip_chars().str.to_uppercase() if name in has else pl.lit(None, pl.String)
    return found.alias(name)


def _number(name: str, has: set[str]) -> pl.Expr:
    return pl.col(name) if name in has else pl.lit(None, pl.Float64).alias(name)


def _completed(table: pl.DataFrame) -> pl.DataFrame:
    """P value from its logarithm and the other way round, standard error from effect and P value."""
    from scipy.special import log_ndtr, ndtri

    beta, error = table["beta"].to_numpy(), table["standard_error"].to_numpy()
    z, p = table["z"].to_numpy(), table["p_value"].to_numpy().copy()
    minus_log = table["neg_log_10_p_value"].to_numpy().copy()
    with np.errstate(all="ignore"):
        p = np.where(np.isnan(p), 10.0**-minus_log, p)
        z = np.where(np.isnan(z), beta / error, z)
        p = np.where(np.isnan(p), 2 * np.exp(log_ndtr(-np.abs(z))), p)
        minus_log = np.where(np.isnan(minus_log) & (p > 0), -np.log10(p), minus_log)
        written = _written_logarithm(table["p_text"].filter(pl.Series(p == 0)))
        minus_log[p == 0] = np.where(np.isnan(minus_log[p == 0]), written, minus_log[p == 0])
        from_z = -(np.log(2) + log_ndtr(-np.abs(z))) / np.log(10)
        minus_log = np.where(np.isnan(minus_log) & (p == 0), from_z, minus_log)
        estimated = np.where(np.isnan(z), np.abs(beta / ndtri(np.clip(p, 1e-300, 1) / 2)), np.abs(beta / z))
        error = np.where(np.isnan(error) & (beta != 0), estimated, error)
    values = {"p_value": p, "neg_log_10_p_value": minus_log, "standard_error": error}
    return table.with_columns(pl.Series(name, column).fill_nan(None) for name, column in values.items())


def _written_logarithm(texts: pl.Series) -> np.ndarray:
    """-log10 of P values that are written but too small for a floating-point number, `3.2e-412`."""
    parts = texts.str.to_lowercase().str.split_exact("e", 1).struct.unnest()
    mantissa, exponent = (parts[name].cast(pl.Float64, strict=False).to_numpy() for name in ("field_0", "field_1"))
    found: np.ndarray = -(np.log10(mantissa) + exponent)
    return np.where(np.isfinite(found), found, np.nan)


def reasons(table: pl.DataFrame, unreadable: pl.Series) -> pl.Series:
    """Why each row cannot be used, null where it can."""
    error = pl.col("error")
    rules = [
        (error.is_not_null() & pl.col("beta").is_null(), pl.format("no estimate: {}", error)),
        (pl.col("effect_allele").is_null(), pl.lit("no effect allele")),
        (pl.col("effect_allele") == pl.col("other_allele"), pl.lit("effect and other allele are the same")),
        (pl.col("variant_id").is_null() & pl.col("base_pair_location").is_null(), pl.lit("neither id nor position")),
        (pl.col("base_pair_location") < 1, pl.lit("position is below 1")),
        (pl.col("beta").is_null() & pl.col("p_value").is_null(), pl.lit("neither effect nor P value")),
        (~pl.col("beta").is_finite(), pl.lit("effect is not finite")),
        (~(pl.col("standard_error") > 0), pl.lit("standard error is not above 0")),
        (~pl.col("p_value").is_between(0, 1), pl.lit("P value is not between 0 and 1")),
        (~pl.col("effect_allele_frequency").is_between(0, 1), pl.lit("frequency is not between 0 and 1")),
    ]
    broken = pl.coalesce(*(pl.when(rule).then(reason) for rule, reason in rules))
    return table.select(pl.coalesce(pl.lit(unreadable), broken).alias("reason"))["reason"]
