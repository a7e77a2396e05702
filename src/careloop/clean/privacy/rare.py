"""What only few patients have: codes, category texts and units counted over all shards; rare codes go to a parent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

# A longer text is no category, however many patients share it.
LONGEST_CATEGORY = 80
# Each rare code climbs at most this many steps; ICD and ATC have five levels, SNOMED paths are seldom longer.
MOST_STEPS = 20
_ICD = re.compile(r"(.*ICD(?:9|10)[A-Z]*//)([A-Z]?\d[0-9A-Z]{1,2})(\.?)([0-9A-Z]+)")
_ATC = re.compile(r"(.*ATC//)([A-Z](?:\d\d(?:[A-Z](?:[A-Z](?:\d\d)?)?)?)?)")
_ATC_LEVELS = {7: 5, 5: 4, 4: 3, 3: 1}
_COUNTS = pl.Schema({"item": pl.String(), "subjects": pl.UInt32()})
_PAIRS = pl.Schema({"code": pl.String(), "subject_id": pl.Int64()})
_TEXTS = pl.Schema({"text_key": pl.UInt64(), "subjects": pl.UInt32()})
# Two different texts have one key with a chance of 3 in a million among ten million texts.
TEXT_KEY = pl.struct("code", "text_value").hash(seed=0).alias("text_key")


@dataclass
class Tally:
    """Patients by code, unit and (code, short text), added up shard by shard; a patient is in one shard only.

    `pairs` are (code, subject_id) of the codes that few patients of a shard have: all that it takes to count patients
    again once rare codes have moved to their parents.
    """

    smallest_group: int
    codes: list[pl.DataFrame] = field(default_factory=lambda: [_COUNTS.to_frame()])
    units: list[pl.DataFrame] = field(default_factory=lambda: [_COUNTS.to_frame()])
    texts: list[pl.DataFrame] = field(default_factory=lambda: [_TEXTS.to_frame()])
    pairs: list[pl.DataFrame] = field(default_factory=lambda: [_PAIRS.to_frame()])

    def add(self, events: pl.DataFrame) -> None:
        """Count one shard's events."""
        codes = _patients(events, "code")
        few = codes.filter(pl.col("subjects") < self.smallest_group).select(code="item")
        self.codes.append(codes)
        self.units.append(_patients(events, "unit"))
        short = events.filter(pl.col("text_value").str.len_chars() <= LONGEST_CATEGORY)
        self.texts.append(short.group_by(TEXT_KEY).agg(subjects=pl.col("subject_id").n_unique()).cast(_TEXTS))
        self.pairs.append(events.select(_PAIRS.names()).unique().join(few, on="code", how="semi"))

    def common_units(self) -> pl.Series:
        """Units that enough patients have."""
        return _enough(self.units, "item", self.smallest_group)

    def common_texts(self) -> pl.Series:
        """Keys (`TEXT_KEY`) of the texts that enough patients have with the same code."""
        return _enough(self.texts, "text_key", self.smallest_group)

    def renamed_codes(self, parents: Mapping[str, str]) -> pl.DataFrame:
        """Each `code` with its `shared_code`: itself where enough patients have it, else the nearest parent, else null.

        `parents` come before those that ICD's and ATC's own codes show. A parent counts the patients that have it and
        those whose rarer codes move to it.
        """
        counts = _summed(self.codes, "item")
        common = set(counts.filter(pl.col("subjects") >= self.smallest_group)["item"])
        pairs = pl.concat(self.pairs).filter(~pl.col("code").is_in(list(common)))
        shared = {code: code for code in sorted(set(counts["item"]) - common)}
        for _ in range(MOST_STEPS):
            rare = self._still_rare(shared, pairs, common)
            moves = {target: parent for target in rare if (parent := parent_of(target, parents)) is not None}
            if not moves:
                break
            shared = {code: moves.get(target, target) for code, target in shared.items()}
        rare = self._still_rare(shared, pairs, common)
        named = {code: code for code in common} | {
            code: None if target in rare else target for code, target in shared.items()
        }
        return pl.DataFrame(
            {"code": list(named), "shared_code": list(named.values())},
            schema={"code": pl.String(), "shared_code": pl.String()},
        ).sort("code")

    def _still_rare(self, shared: Mapping[str, str], pairs: pl.DataFrame, common: set[str]) -> set[str]:
        moved = pairs.select("subject_id", code=pl.col("code").replace_strict(shared, return_dtype=pl.String()))
        counted = _patients(moved, "code").filter(pl.col("subjects") < self.smallest_group)
        return set(counted["item"]) - common


def parent_of(code: str, parents: Mapping[str, str]) -> str | None:
    """The parent that `parents` names, else one level up in ICD-9, ICD-10 or ATC; None at the top, or for others."""
    if code in parents:
        return parents[code]
    if match := _ICD.fullmatch(code):
        prefix, category, dot, rest = match.groups()
        return f"{prefix}{category}{dot}{rest[:-1]}" if len(rest) > 1 else f"{prefix}{category}"
    if (match := _ATC.fullmatch(code)) and len(match[2]) in _ATC_LEVELS:
        return match[1] + match[2][: _ATC_LEVELS[len(match[2])]]
    return None


def _patients(events: pl.DataFrame, column: str) -> pl.DataFrame:
    counted = events.filter(pl.col(column).is_not_null()).group_by(item=column).agg(pl.col("subject_id").n_unique())
    return counted.rename({"subject_id": "subjects"}).cast(_COUNTS)


def _summed(parts: Iterable[pl.DataFrame], column: str) -> pl.DataFrame:
    return pl.concat(parts).group_by(column).agg(pl.col("subjects").sum())


def _enough(parts: Iterable[pl.DataFrame], column: str, smallest_group: int) -> pl.Series:
    return _summed(parts, column).filter(pl.col("subjects") >= smallest_group)[column].sort()
