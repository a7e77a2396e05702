"""What a genome adds to a model, in sentences: how well each form separates, the paired gains, who is reclassified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
PER = 1000  # net benefit is told as true positives per so many patients


def genome_words(name: str, entry: Json) -> Iterator[str]:
    """Yield the sentences of one model's entry in fusion.json (evaluation and reclassification)."""
    models = entry["evaluation"]["models"]
    both, clinical, genome = (stated(models[part]["figures"]["auroc"]) for part in ("both", "clinical", "genome"))
    yield (
        f"{name}: AUROC {clinical} from clinical columns alone, {genome} from the genome alone, {both} from both, on "
        "the same rows."
    )
    pair = entry["evaluation"]["comparisons"][0]
    yield f"{gain(pair['differences']['auroc'], 'AUROC')} {benefit(pair)}"
    yield moves(entry["reclassification"])


def gain(difference: Json, figure: str) -> str:
    """Whether the genome raises a figure, by its paired interval."""
    if difference["low"] is None:
        return f"Whether the genome adds to the {figure} cannot be said: {difference['reason']}."
    told = stated(difference, sign="+")
    if difference["low"] > 0:
        return f"The genome adds {told} to the clinical model's {figure}."
    if difference["high"] < 0:
        return f"With the genome the {figure} is lower: {told}."
    return f"No gain in {figure} can be told from chance: {told}."


def benefit(pair: Json) -> str:
    """The gain in net benefit at the common threshold, in true positives per 1,000 patients."""
    difference, at = pair["differences"]["net_benefit"], pair["net_benefit_threshold"]
    if difference["low"] is None:
        return f"Net benefit at a risk of {at:.0%}: {difference['reason'] or 'not estimable'}."
    value, low, high = (PER * difference[side] for side in ("value", "low", "high"))
    return (
        f"Acting from a risk of {at:.0%} on, the genome is worth {value:+.1f} ({low:+.1f} to {high:+.1f}) true "
        f"positives per {PER:,} patients, with no more false ones."
    )


def moves(found: Json) -> str:
    """Who moves to a higher and who to a lower risk category."""
    figures, limits = found["figures"], ", ".join(f"{limit:.0%}" for limit in found["limits"])

    def told(side: str) -> str:
        up, down = (figures[f"{way}_{side}"]["value"] for way in ("up", "down"))
        return "not estimable" if up is None else f"{up:.1%} move up and {down:.1%} down"

    return (
        f"Across risk limits of {limits}: of patients with the outcome {told('events')} (net "
        f"{stated(figures['nri_events'], sign='+')}), of those without {told('event_free')} (net "
        f"{stated(figures['nri_event_free'], sign='+')} in the right direction)."
    )


def stated(estimate: Json, *, sign: str = "") -> str:
    """A figure with its interval."""
    if estimate["value"] is None:
        return "not estimable"
    if estimate["low"] is None:
        return f"{estimate['value']:{sign}.3f}"
    return f"{estimate['value']:{sign}.3f} ({estimate['low']:{sign}.3f} to {estimate['high']:{sign}.3f})"
