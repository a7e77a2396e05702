"""Value of a policy for repeated decisions from logged episodes, or why it cannot be told.

Importance sampling of whole trajectories (IPS) and self-normalised (WIS), per decision (Precup, Sutton & Singh 2000,
ICML); doubly robust with fitted Q evaluation of other episodes (Jiang & Li 2016, ICML) and its weighted form (Thomas &
Brunskill 2016, ICML, section 5), which decides; fitted Q evaluation itself. Intervals are bootstrapped by episode.

Two things are never passed over. A policy that differs much from the one that acted is followed by few of the logged
episodes: under an effective sample size of 50 no value is given (Gottesman et al. 2019, Nature Medicine 25:16). And
what happens after a state and action that were never logged together is not known: importance sampling would count
it as zero. Here the share of the policy's episodes that come to such a pair is reported; the value is of the same policy
held to logged pairs, its interval is widened by what the others could add or take away, and above 5 % of episodes, or
where the range of returns is not given, no value is given.

Assumption: the states hold all reasons for which actions were chosen, and all of the past that bears on what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from careloop.evaluate import Estimate
from careloop.evaluate.estimate import PERCENTILES, draw_counts
from careloop.plan.effect.balance import effective_sample
from careloop.plan.effect.doubly_robust import Z_95
from careloop.plan.effect.goals import Array
from careloop.plan.effect.nuisance import subject_folds
from careloop.plan.policy.episodes import Episodes, check_policy, logged_probabilities, within_seen
from careloop.plan.policy.fitted_q import Unseen, at_start, fitted_q, unseen_share, worst_and_best

SMALLEST_EFFECTIVE_SAMPLE = 50.0
MOST_UNSEEN_EPISODES = 0.05  # beyond this the bounds are wider than differences between plans that matter
DECIDES = "weighted doubly robust"
