"""Faults planted in a simulated right record: how many are found, and how much of what is found is planted.

    python benchmarks/planted_faults.py
    python benchmarks/planted_faults.py --seeds 1 2 3

One row a setting and seed: recall / precision of each fault, and what was found in the right record before anything was
planted (per 100,000 events). The record is that of the tests (`tests/clean/hospital.py`), other sizes and rates besides
theirs: rare faults, few patients, and a laboratory test whose two units lie too close for a distribution to tell. No
peer is named because none of the tools known to us looks for mix-ups of units by distribution.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl

from careloop.clean.apply import clean_events, constants
from careloop.clean.sketch import sketch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "clean"))
import hospital as simulated

Rates = simulated.Rates
SETTINGS = {
    "as in the tests: 600 patients": (Rates(), 600, 6),
    "mix-ups 3 %, sentinels 0.5 %": (replace(Rates(), unit_mixup=0.03, sentinel=0.005), 600, 6),
    "mix-ups 1 %, sentinels 0.3 %": (replace(Rates(), unit_mixup=0.01, sentinel=0.003), 600, 6),
    "150 patients, 6 visits": (Rates(), 150, 6),
    "60 patients, 4 visits": (Rates(), 60, 4),
    "3,000 patients, 1 visit": (Rates(), 3000, 1),
    "mix-ups 30 %": (replace(Rates(), unit_mixup=0.3), 600, 6),
}
FAULTS = ("unit_mixup", "sentinel", "before_birth", "after_death", "known_early", "before_order")
CLOSE = "LOINC//3094-0"  # urea nitrogen: mg/dL or mmol/L


def found_in(events: pl.DataFrame) -> pl.DataFrame:
    """Findings, one row each: source, rule and action."""
    _, found = clean_events(events, constants(sketch(events)))
    return found.select("source", "code", "rule", "action")


def measured(found: set[str], planted: set[str]) -> str:
    """Recall and precision as text."""
    hit = len(found & planted)
    precision = f"{hit / len(found):.3f}" if found else "  -  "
    return f"{hit / len(planted):.3f}/{precision}" if planted else "-"


def close_units(seed: int) -> str:
    """Recall and precision where 8 % of urea nitrogens are in mmol/L."""
    tests = tuple(
        replace(t, wrong=lambda v: v * 0.357) if t.code == CLOSE else replace(t, wrong=None) for t in simulated.TESTS
    )
    right = simulated.hospital(seed)
    before, simulated.TESTS = simulated.TESTS, tests
    try:
        events, truth = simulated.planted(right, seed + 500, replace(simulated.NOTHING, unit_mixup=0.08))
    finally:
        simulated.TESTS = before
    return measured(set(found_in(events).filter(rule="unit_mixup", code=CLOSE)["source"]), truth["unit_mixup"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[70101, 70102, 70103])
    options = parser.parse_args()
    print(
        "recall/precision".ljust(32) + "seed".rjust(7) + "".join(fault.rjust(14) for fault in FAULTS) + "  right record"
    )
    for name, (rates, patients, visits) in SETTINGS.items():
        for seed in options.seeds:
            right = simulated.hospital(seed, patients=patients, visits=visits)
            events, truth = simulated.planted(right, seed + 500, rates)
            rows = found_in(events)
            cells = [measured(set(rows.filter(rule=fault)["source"]), truth[fault]) for fault in FAULTS]
            alarms = found_in(right).height * 100_000 / right.height
            print(name.ljust(32) + str(seed).rjust(7) + "".join(cell.rjust(14) for cell in cells) + f"{alarms:14.1f}")
    for seed in options.seeds:
        print("urea nitrogen, 8 % in mmol/L".ljust(32) + str(seed).rjust(7) + close_units(seed).rjust(14))


if __name__ == "__main__":
    main()
