"""Evidence that grows while predictions are wrong and may be looked at after every row: e-processes.

Each row multiplies a bet's stake by a factor whose expectation is 1 as long as all is well. The bets begin at an
unknown row: the stake sleeps, and a share of it wakes at every row, so that evidence is not used up by a long time
without drift. Evidence is the whole stake. It starts at 1, and while all is well it ever reaches 1 / alpha with
probability at most alpha, however often one looks (Ville's inequality).

Sources: Ville 1939; Shafer, J R Stat Soc A 2021;184:407 (betting); Ramdas, Grunwald, Vovk and Shafer, Stat Sci
2023;38:576 (e-processes); Herbster and Warmuth, Mach Learn 1998;32:151, and Vovk, Nouretdinov and Gammerman, COPA 2021
(a stake that moves between bets: tracking, jumpers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["level", "spread", "input"]

# Shares of the sleeping stake that wake at a row, in equal parts: for a change within hundreds or thousands of rows.
WAKING = (0.003, 0.0003)


@dataclass(frozen=True)
class Evidence:
    """One e-process: what it looks for, its share of the false alarms, its path, and its alarm.

    `kind`: `level` outcomes more or less frequent than predicted, `spread` risks of low- and high-risk patients closer
    together or further apart than predicted, `input` values of `feature` unlike before. `times` ISO dates at which
    rows entered and `log10` the evidence after each (equally long); an alarm is evidence at or above `line` = log10(1 /
    `alpha`). `alarm_row` counts rows from 1; `since` is when the first prediction that shows the change was made, by
    maximum likelihood, and `direction` what the change is like.
    """

    kind: Kind
    feature: str | None
    alpha: float
    line: float
    rows: int
    times: tuple[str, ...]
    log10: tuple[float, ...]
    highest: float
    alarm: bool
    alarm_row: int | None
    alarm_time: str | None
    since: str | None
    direction: str | None


def log_evidence(log_factors: np.ndarray) -> np.ndarray:
    """Natural logarithm of the evidence (n,) after each row, for bets in equal parts with `log_factors` (n, k).

    What a row's evidence is depends on it and on earlier rows only.
    """
    n, k = log_factors.shape
    grown = np.cumsum(log_factors, axis=0)
    before = grown - log_factors
    row = np.arange(n)
    total = np.full(n, -np.inf)
    for share in WAKING:
        woken = np.log(share) + row * np.log1p(-share)
        awake = grown + np.logaddexp.accumulate(woken[:, None] - before, axis=0)
        asleep = (row + 1) * np.log1p(-share)
        total = np.logaddexp(total, np.logaddexp(asleep, np.logaddexp.reduce(awake, axis=1) - np.log(k)))
    return total - np.log(len(WAKING))


def weigh(
    log_factors: np.ndarray,
    directions: tuple[str, ...],
    *,
    kind: Kind,
    alpha: float,
    times: np.ndarray,
    made: np.ndarray,
) -> Evidence:
    """The e-process of bets `log_factors` (n, k), called `directions` (k), over rows that entered at `times` (n,).

    `made` (n,) is when their predictions were made.
    """
    log10 = log_evidence(log_factors) / np.log(10) if len(log_factors) else np.zeros(0)
    line = float(-np.log10(alpha))
    over = np.flatnonzero(log10 >= line)
    alarm = int(over[0]) if len(over) else None
    began, bet = _best_bet(log_factors[: alarm + 1]) if alarm is not None else (None, None)
    stamps, since = (np.datetime_as_string(moments, unit="s") for moments in (times, made))
    return Evidence(
        kind=kind,
        feature=None,
        alpha=alpha,
        line=line,
        rows=len(log10),
        times=tuple(stamps.tolist()),
        log10=tuple(log10.tolist()),
        highest=float(log10.max(initial=0.0)),
        alarm=alarm is not None,
        alarm_row=None if alarm is None else alarm + 1,
        alarm_time=None if alarm is None else str(stamps[alarm]),
        since=None if began is None else str(since[began]),
        direction=None if bet is None else directions[bet],
    )


def _best_bet(log_factors: np.ndarray) -> tuple[int, int]:
    """Row from which, and the bet on which, the stake grew most up to the last row (maximum likelihood)."""
    from_row = np.cumsum(log_factors[::-1], axis=0)[::-1]
    row, bet = np.unravel_index(int(np.argmax(from_row)), from_row.shape)
    return int(row), int(bet)
