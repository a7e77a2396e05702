"""The plain report in a shared record: what was done, and which risks are left, without small counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from careloop.clean.privacy.cells import shown
from careloop.clean.privacy.pseudonyms import DAYS_OF_WEEK, Pseudonyms
from careloop.clean.privacy.text import ScrubSettings
from careloop.record.whole_file import write_whole

REPORT, TEXT = "deidentification.json", "deidentification.txt"


class DeidentificationSettings(BaseModel):
    """What a shared record keeps. The defaults are the strictest that leave events, order and intervals usable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    smallest_group: int = Field(
        default=11, ge=2, description="Codes, texts and units of fewer patients are generalised or dropped."
    )
    largest_shift_days: int = Field(
        default=364, ge=DAYS_OF_WEEK, le=3650, description="Each patient's times move back by 1 to so many days."
    )
    weekdays: Literal["kept", "changed"] = Field(
        default="kept", description="kept: shifts are whole weeks; changed: any number of days, seven times as many."
    )
    over_89: Literal["aggregated", "kept"] = Field(
        default="aggregated", description="aggregated: nobody is seen older than 90, see careloop.clean.privacy.ages."
    )
    text: Literal["categories", "scrubbed", "none"] = Field(
        default="categories",
        description="categories: only short texts that smallest_group patients share; scrubbed: other texts too, with "
        "names, numbers and dates replaced as far as they are found; none: no text at all.",
    )
    rare_words: Literal["tagged", "kept"] = Field(
        default="tagged",
        description="In scrubbed text. tagged: words in the texts of fewer than smallest_group patients become [WORD].",
    )
    postal_codes: Literal["dropped", "three_digits"] = Field(
        default="dropped", description="three_digits: of US ZIP codes, where more than 20,000 people live there."
    )
    careloop_events: Literal["dropped", "kept"] = Field(
        default="dropped", description="Predictions, plans, verdicts and splits; notes of cleaning never go out."
    )
    drop_codes: tuple[str, ...] = Field(
        default=(), description="Further codes never to share, PREFIX* for all that begin so."
    )
    scrub: ScrubSettings = Field(default_factory=ScrubSettings, description="How texts are scrubbed, and with what.")

    def pseudonyms(self, key: bytes) -> Pseudonyms:
        """The replacements under a key, for the record and whatever is shared with it."""
        return Pseudonyms(key, self.largest_shift_days, DAYS_OF_WEEK if self.weekdays == "kept" else 1)


@dataclass(frozen=True)
class DeidentificationSummary:
    """What was done. `removed` counts events and `changed` cells by what was done; `risks` say what is left, in words.

    The exact counts are for the hospital; the report in the shared folder shows small ones as "fewer than".
    """

    subjects: int
    events_read: int
    events_written: int
    codes_generalised: int
    codes_dropped: int
    removed: Mapping[str, int]
    changed: Mapping[str, int]
    risks: tuple[str, ...]
    record_version: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "removed": dict(self.removed), "changed": dict(self.changed), "risks": list(self.risks)}


def residual_risks(settings: DeidentificationSettings) -> tuple[str, ...]:
    """What the shared record may still tell somebody who knows something already, in plain words."""
    steps = settings.largest_shift_days // (DAYS_OF_WEEK if settings.weekdays == "kept" else 1)
    return (
        f"Times are shifted, not removed: each patient's times moved back by one of {steps} amounts. Who knows the "
        "true date of one event of a patient, such as an admission or a birth, knows all of them. Safe Harbor's letter "
        "(45 CFR 164.514(b)(2)(i)(C)) asks for years only; shared dates rest on an expert's determination under "
        "(b)(1), or on a data use agreement.",
        "Intervals between a patient's events are exact, and so is the time of day. They are like a fingerprint: who "
        "has another copy of the data, or knows a few intervals, can find the patient. Two exports under different "
        "keys can be matched by intervals, and the difference of their dates narrows both shifts, sometimes to one "
        "value. Give one recipient exports under one key only.",
        "Of one key, two exports at different times differ in the events that came between, and a code of few patients "
        "may be dropped in one and kept in the other.",
        "Events that happen to everybody at one time (an epidemic, a change of laboratory) narrow a patient's shift.",
        f"Each code is of at least {settings.smallest_group} patients, but combinations of sex, age, race and diseases "
        "may be of one: look with the check of k-anonymity before sharing. Values are exact, and extreme ones may be "
        "known.",
        *_about_text(settings),
        *_about_ages(settings),
        "Assets (images, genomes, waveforms) are not part of the export: only keyed tokens of their addresses "
        "are, and of DICOM series the UIDs that de-identified files have under the same key. If assets are shared too, "
        "they must be de-identified on their own.",
        "Whoever holds the key file and the original record can link every patient back. Keep the key apart, and "
        "destroy it if nobody may ever go back.",
    )


def _about_text(settings: DeidentificationSettings) -> tuple[str, ...]:
    if settings.text == "scrubbed":
        return (
            "Free text was scrubbed by rules and, if one was given, a model. Rules alone miss names: this is NOT Safe "
            "Harbor, and texts must not leave the hospital without people reading a sample.",
            f"Words in the texts of fewer than {settings.smallest_group} patients were tagged, which hides rare names; "
            "common family names, and all of Chinese text, pass it."
            if settings.rare_words == "tagged"
            else "Words that only one patient's texts have were kept, rare names among them.",
        )
    if settings.text == "categories":
        return (
            f"Texts that {settings.smallest_group} patients share were kept as categories; one of them may name a "
            "doctor or a ward.",
        )
    return ()


def _about_ages(settings: DeidentificationSettings) -> tuple[str, ...]:
    if settings.over_89 == "kept":
        return ("Ages over 89 were kept, which Safe Harbor forbids.",)
    return (
        "Patients first known at 90 or older are shown as 90 then; others are followed to their 90th birthday only. A "
        "record that breaks off there tells that the patient may have reached it.",
    )


@dataclass(frozen=True)
class Release:
    """The content of the report: the keyed name of its run, whether it is finished, its settings and its summary."""

    run: str
    finished: bool
    settings: DeidentificationSettings | None = None
    summary: DeidentificationSummary | None = None


def write_release(folder: Path, release: Release) -> None:
    """Write the report as JSON and, once finished, as text; each is there whole or not at all."""
    content: dict[str, Any] = {"run": release.run, "finished": release.finished}
    if release.settings is not None and release.summary is not None:
        smallest = release.settings.smallest_group
        # Where a model lies on the hospital's disk is nobody else's business.
        content["settings"] = release.settings.model_dump(mode="json", exclude={"scrub": {"model"}})
        content |= _without_small_counts(release.summary.to_json(), smallest)
        write_whole(folder / TEXT, _in_words(content))
    write_whole(folder / REPORT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_run(folder: Path) -> str | None:
    """The name of the run that wrote the report in `folder`; None where there is none."""
    if not (folder / REPORT).exists():
        return None
    return str(json.loads((folder / REPORT).read_text(encoding="utf-8")).get("run"))


def _without_small_counts(summary: dict[str, Any], smallest: int) -> dict[str, Any]:
    """Counts below `smallest` in words, and no total from which one could be had by subtraction."""
    kept = {name: value for name, value in summary.items() if name not in {"events_read", "removed", "changed"}}
    kept |= {name: shown(kept[name], smallest) for name in ("subjects", "codes_generalised", "codes_dropped")}
    for part in ("removed", "changed"):
        kept[part] = {what: shown(count, smallest) for what, count in summary[part].items()}
    return kept


def _in_words(content: Mapping[str, Any]) -> str:
    removed = [f"  {what}: {count}" for what, count in content["removed"].items()]
    changed = [f"  {what}: {count}" for what, count in content["changed"].items()]
    lines = [
        "This record was de-identified by careloop. Research software, not legal advice.",
        "",
        f"Patients: {content['subjects']}. Events: {content['events_written']}.",
        f"Codes moved to a more general one: {content['codes_generalised']}; dropped: {content['codes_dropped']}.",
        "Events removed:",
        *(removed or ["  none"]),
        "Cells changed (besides ids, times, assets and sources, which all were):",
        *(changed or ["  none"]),
        "",
        "What may still be found out:",
        *(f"- {risk}" for risk in content["risks"]),
    ]
    return "\n".join(lines) + "\n"
