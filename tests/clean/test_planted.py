"""Unit mix-ups, sentinels and time travel planted in a right record are found; the right one is left alone.

Everything is simulated (`hospital.py`). Planted, as shares of the events that the fault can befall: 8 % values in
another unit, 1.5 % sentinels (999 and -1), 1 % before birth, 3 % after death (of the dead), 1 % known before measured,
2 % a week or more before their order. `benchmarks/planted_faults.py` prints the same for other rates and sizes.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from careloop.clean import clean_record, undo
from careloop.clean.findings import NOTE
from careloop.record import Record

# The detectors were made with seeds below 100 and 20261 to 20263; these were run when that was done.
SEEDS = (70101, 70102, 70103)
LEAST = 0.95


def _module(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


simulated = _module("hospital")


def found_by_rule(record: Record) -> dict[str, set[str]]:
    """The sources of the events that notes are about."""
    notes = record.events().filter(pl.col("code").str.starts_with(NOTE)).select("code", "source").collect()
    return {
        code.removeprefix(NOTE): set(rows["source"])
        for (code,), rows in notes.partition_by("code", as_dict=True).items()
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_planted_is_found_and_little_else(seed: int, tmp_path: Path) -> None:
    right = simulated.hospital(seed)
    events, truth = simulated.planted(right, seed + 500, simulated.Rates())
    assert {fault: len(sources) > 50 for fault, sources in truth.items()} == dict.fromkeys(truth, True)
    record = Record.create(tmp_path / "record", shards=4).append(events, key="simulated")
    clean_record(record)
    found = found_by_rule(Record.open(record.path))
    for fault, sources in truth.items():
        hit = len(found[fault] & sources)
        assert hit / len(sources) >= LEAST, f"recall of {fault}"
        assert hit / len(found[fault]) >= LEAST, f"precision of {fault}"
    # What was changed is what it was, to the rounding of the other unit (a bilirubin of 2 umol/L is 0.117 mg/dL).
    changed = Record.open(record.path).events().filter(pl.col("code").str.starts_with(f"{NOTE}unit_mixup")).collect()
    fixed = changed.filter(pl.col("text_value").str.json_path_match("$.action") == "changed").select("source")
    assert fixed.height > 0.7 * len(truth["unit_mixup"])
    both = (
        Record.open(record.path).events().filter(~pl.col("code").str.starts_with("CARELOOP")).collect()
        .join(fixed, on="source").join(right.select("source", true="numeric_value"), on="source")
    )  # fmt: skip
    off = (both["numeric_value"] / both["true"] - 1).abs()
    assert off.quantile(0.95) <= 0.05
    assert off.max() < 0.5
    back = undo(record).events().collect()
    assert sorted(map(repr, back.rows())) == sorted(map(repr, events.rows()))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_right_record_is_left_alone(seed: int, tmp_path: Path) -> None:
    right = simulated.hospital(seed)
    record = Record.create(tmp_path / "record", shards=4).append(right, key="simulated")
    counts = clean_record(record).counts
    found = sum(sum(actions.values()) for actions in counts.values())
    changed = sum(actions.get("changed", 0) + actions.get("removed", 0) for actions in counts.values())
    assert found <= 0.0005 * right.height, counts
    assert changed == 0, counts
