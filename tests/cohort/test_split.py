"""Splits: SplitMix64's published numbers, independence of everything but subject and seed, sites, calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop.cohort.definition import Split
from careloop.cohort.labels import Facts
from careloop.cohort.split import GOLDEN_GAMMA, assign_split, keep_first_split, sites, splitmix64, subject_fraction

TIME = pl.Datetime("us", "UTC")


def rows_of(rows: list[tuple[Any, ...]], *more: str) -> pl.DataFrame:
    return pl.DataFrame(
        rows, schema={"subject_id": pl.Int64, "prediction_time": TIME, **dict.fromkeys(more, pl.String)}, orient="row"
    )


def test_splitmix64_gives_the_published_sequence() -> None:
    """Seed 1234567, from Vigna's C code as quoted by Rosetta Code."""
    states = np.array([(1234567 + i * GOLDEN_GAMMA) % 2**64 for i in range(5)], dtype=np.uint64)
    assert splitmix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_fractions_are_close_to_those_asked_for() -> None:
    subjects = pl.DataFrame({"subject_id": pl.arange(100_000, eager=True)})
    counts = dict(assign_split(subjects, Split(seed=3))["split"].value_counts().rows())
    # five standard deviations of a binomial count
    for name, fraction in (("train", 0.6), ("tuning", 0.2), ("held_out", 0.2)):
        assert abs(counts[name] - 100_000 * fraction) < 5 * (100_000 * fraction * (1 - fraction)) ** 0.5


@given(ids=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30), seed=st.integers(0, 2**63 - 1))
def test_a_subject_s_place_depends_on_nothing_but_itself_and_the_seed(ids: list[int], seed: int) -> None:
    together = subject_fraction(pl.Series(ids, dtype=pl.Int64), seed).to_list()
    alone = [subject_fraction(pl.Series([i], dtype=pl.Int64), seed).item() for i in ids]
    assert together == alone
    assert all(0 <= u < 1 for u in together)


def test_another_seed_divides_independently() -> None:
    ids = pl.arange(20_000, eager=True)
    correlation = np.corrcoef(subject_fraction(ids, 0), subject_fraction(ids, 1))[0, 1]
    assert abs(correlation) < 5 / 20_000**0.5


def test_calendar_boundaries_belong_to_the_later_split() -> None:
    split = Split(by="calendar", boundaries=(date(2020, 1, 1), date(2021, 1, 1)))
    times = [datetime(2019, 12, 31, 23, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)]
    assert assign_split(rows_of([(1, t) for t in times]), split)["split"].to_list() == ["train", "tuning", "held_out"]


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 99), st.sampled_from(["train", "tuning", "held_out"])),
        unique_by=lambda row: row[:2],
    )
)
def test_no_subject_is_ever_in_two_splits(rows: list[tuple[int, int, str]]) -> None:
    frame = rows_of([(s, datetime(2020, 1, 1 + t // 24, t % 24, tzinfo=UTC), split) for s, t, split in rows], "split")
    kept = keep_first_split(frame)
    assert kept.group_by("subject_id").agg(pl.col("split").n_unique())["split"].to_list() == [1] * len(
        {s for s, _, _ in rows}
    )
    firsts = {(s, min(t for o, t, _ in rows if o == s)) for s, _, _ in rows}
    assert firsts <= {(s, (t.day - 1) * 24 + t.hour) for s, t, _ in kept.rows()}


def test_held_out_sites_are_held_out_whole_and_the_rest_shared() -> None:
    frame = rows_of([(i, datetime(2020, 1, 1, tzinfo=UTC), "AB"[i % 2]) for i in range(20_000)], "site")
    split = Split(by="site", site_code="SITE", held_out_sites=("B",), train=0.6, tuning=0.2, held_out=0.2)
    counts = dict(assign_split(frame, split).group_by("site", "split").len().select(pl.exclude("len")).rows())
    assert counts["B"] == "held_out"
    others = assign_split(frame, split).filter(pl.col("site") == "A")["split"].value_counts()
    assert set(others["split"]) == {"train", "tuning"}
    share = others.filter(pl.col("split") == "train")["count"].item() / 10_000
    assert share == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 10_000) ** 0.5)


@pytest.mark.parametrize(
    ("site_code", "rows", "expected"),
    [
        ("SITE", [(1, None, "SITE", None, None, "Leeds")], "Leeds"),
        ("SITE", [(1, None, "SITE", None, None, "Leeds"), (1, -9, "SITE", None, None, "York")], "York"),
        ("SITE", [(1, -9, "SITE", None, None, "York"), (1, -2, "SITE", None, None, "Hull")], "Hull"),
        ("SITE", [(1, -9, "SITE", None, None, "York"), (1, -2, "SITE", None, 1, "Hull")], "York"),
        ("SITE//*", [(1, -9, "SITE//York")], "York"),
        ("SITE", [(1, 1, "SITE", None, None, "York")], None),
    ],
)
def test_the_site_is_the_latest_known_at_the_prediction_time(
    events_of: Any, site_code: str, rows: list[tuple[Any, ...]], expected: str | None
) -> None:
    keys = rows_of([(1, datetime(2020, 1, 1, tzinfo=UTC))])
    found = sites(Facts(events_of(rows), pl.DataFrame(), frozenset()), keys, site_code)
    assert found["site"].to_list() == ([expected] if expected else [])
