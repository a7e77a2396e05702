"""What de-identification and the check of anonymity say on the terminal, to the hospital: exact counts, plain words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from careloop.clean.privacy.anonymity import AnonymityReport
from careloop.clean.privacy.dicom.folder import DeidentifiedDicom
from careloop.clean.privacy.release import TEXT, DeidentificationSummary

_MOST_LINES = 5


def record_in_words(summary: DeidentificationSummary, out: Path, key_file: Path) -> str:
    """Patients and events written, what was removed and changed, and where the report and the key are."""
    return "\n".join(
        [
            f"{out}: {summary.events_written:,} of {summary.events_read:,} events of {summary.subjects:,} patients.",
            f"Rare codes: {summary.codes_generalised:,} made more general, {summary.codes_dropped:,} dropped.",
            *_counted("Events removed", summary.removed),
            *_counted("Cells changed", summary.changed),
            f"Read what may still be found out before it leaves the house: {out / TEXT}",
            f"Whoever holds {key_file} and the original record can link patients back: keep the key apart.",
            "Then look for people who stand alone: careloop anonymity",
        ]
    )


def dicom_in_words(done: DeidentifiedDicom, out: Path) -> str:
    """Files written, those there before, and refused ones by reason."""
    return "\n".join(
        [
            f"{out}: {done.files_written:,} of {done.files_read:,} files written, {done.files_there:,} there before.",
            *_counted("Refused", done.reasons),
            "Text burned into pixels is looked for in headers only: let people look at some images of every kind.",
        ]
    )


def anonymity_in_words(report: AnonymityReport) -> str:
    """Whether every class has k people, what singles people out, and what would help."""
    verdict = "passed" if report.passed else "FAILED"
    lines = [
        f"{report.k}-anonymity of {report.people:,} people by {', '.join(report.quasi_identifiers)}: {verdict}.",
        f"The smallest of {report.number_of_classes:,} classes has {report.smallest_class:,} people; "
        f"{report.people_below:,} people ({report.share_below:.1%}) are in classes below {report.k}, "
        f"{report.unique_people:,} of them alone.",
    ]
    if report.diversity is not None:
        lines.append(
            f"l-diversity is {report.diversity}; {report.homogeneous:,} people are in classes with one sensitive value."
        )
    if report.causes:
        lines.append("People stand out by:")
        lines += [f"  {' + '.join(cause.attributes)}: {cause.people_below:,}" for cause in report.causes[:_MOST_LINES]]
    if report.suggestions:
        lines.append(f"What would help (people then left in classes below {report.k}):")
        lines += [f"  {better.words}: {better.people_below:,}" for better in report.suggestions[:_MOST_LINES]]
    return "\n".join(lines)


def _counted(title: str, counts: Mapping[str, int]) -> list[str]:
    return [f"{title}:", *(f"  {what}: {count:,}" for what, count in counts.items())] if counts else []
