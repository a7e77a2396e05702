"""One data set made anonymous: each attribute by its action, sequences from the inside, then what names are left."""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from careloop.clean.privacy.dicom.profile import EDITION, METHODS, SAFE_PRIVATE, DicomOptions, action_on

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

_DUMMIES: dict[str, Any] = {
    "DA": "19000101", "DT": "19000101000000", "TM": "000000", "AS": "000Y", "UR": "http://anonymized.invalid",
    **dict.fromkeys(("DS", "IS"), "0"), **dict.fromkeys(("OB", "OW", "OD", "OF", "OL", "OV", "UN"), b"\0\0"),
    **dict.fromkeys(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV", "AT"), 0),
}  # fmt: skip
_DUMMY_TEXT = "ANONYMIZED"
_STANDARD_ROOT = "1.2.840.10008."  # of what the standard itself defines: classes, syntaxes, well-known frames
_TEXTS = {"AE", "LO", "LT", "SH", "ST", "UC", "UR", "UT"}
# Attributes whose words name the patient or the visit, so that the same words are taken out of all text that is kept.
_NAMING = {
    "PatientID", "OtherPatientIDs", "AccessionNumber", "AdmissionID", "StudyID", "IssuerOfPatientID",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "PatientAddress", "StationName",
    "DeviceSerialNumber", "MedicalRecordLocator", "PatientTelephoneNumbers", "PatientBirthDate", "StudyDate",
    "SeriesDate", "AcquisitionDate", "ContentDate",
}  # fmt: skip
_SHORTEST_NAME, _SHORTEST_NUMBER = 3, 4  # letters; what is shorter stands in too many texts by chance
_OLDEST_AGE_YEARS = 89  # ages above are one class (45 CFR 164.514(b)(2)(i)(C))
_AGE = re.compile(r"(\d{3})Y")


@dataclass
class Subject:
    """Whose files these are: keyed replacements, the days their dates move by, and words that name them."""

    key: bytes
    pseudonym: str
    shift_days: int
    options: DicomOptions
    words: set[str] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)


def subject_of(dataset: Dataset, key: bytes, options: DicomOptions) -> Subject:
    """Return how this data set's patient (without an id: its study) is to be replaced."""
    patient = _plain(dataset, "PatientID") or _plain(dataset, "StudyInstanceUID")
    days = options.shift_days(patient) if options.shift_days else 0
    made = options.pseudonym or (lambda patient: _digest(key, f"patient:{patient}").hex()[:16].upper())
    return Subject(key, made(patient), days, options, words=set(_naming_words(dataset)))


def keyed_uid(key: bytes, uid: str) -> str:
    """Return the same new UID for the same UID and key: 2.25 and a UUID (PS3.5 B.2) from its HMAC-SHA-256."""
    return f"2.25.{uuid.UUID(bytes=_digest(key, f'uid:{uid}')[:16], version=5).int}"


def deidentify_dataset(dataset: Dataset, subject: Subject) -> None:
    """Apply the profile to a data set in place, its sequences included, and say in it what was done."""
    _apply(dataset, subject)
    if "PatientID" in dataset or "PatientName" in dataset:
        dataset.PatientID = dataset.PatientName = subject.pseudonym
    _take_out_words(dataset, subject)
    _mark(dataset, subject)


def _digest(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _plain(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).replace("\0", "").strip()


def _apply(dataset: Dataset, subject: Subject) -> None:
    if subject.options.private == "keep_safe":
        _remove_unsafe_private(dataset, subject)
    for tag in list(dataset.keys()):
        if tag.is_private:
            if subject.options.private == "remove":
                del dataset[tag]
                subject.done["private removed"] += 1
            continue
        element = _readable(dataset, tag)
        if element is None or not element.keyword:  # neither known broken nor unknown values can be judged
            del dataset[tag]
            subject.done["unknown or unreadable removed"] += 1
            continue
        _act(dataset, element, subject)


def _readable(dataset: Dataset, tag: Any) -> DataElement | None:
    try:
        element = dataset[tag]
        str(element.value) if element.VR != "SQ" else len(element.value)
    except Exception:  # pydicom converts on access, and a broken value may raise anything
        return None
    return element


def _act(dataset: Dataset, element: DataElement, subject: Subject) -> None:
    action = action_on(int(element.tag), element.keyword, element.VR, subject.options)
    if action == "remove" or (action == "clean" and element.VR not in _TEXTS):
        del dataset[element.tag]
        subject.done["removed"] += 1
    elif action == "empty":
        element.value = [] if element.VR == "SQ" else None
        subject.done["emptied"] += 1
    elif action == "dummy":
        _make_dummy(element, subject)
        subject.done["replaced"] += 1
    elif action == "uid":
        _replace_uids(element, subject)
    elif action == "shift":
        element.value = _each(element, lambda value: _shifted(value, element.VR, subject.shift_days))
        subject.done["dates shifted"] += 1
    elif action == "clean" and subject.options.clean_text:
        element.value = _each(element, subject.options.clean_text)
        subject.done["text cleaned"] += 1
    elif element.VR == "SQ":
        for item in element.value:
            _apply(item, subject)
    elif element.keyword == "PatientAge":
        element.value = _each(element, _capped_age)


def _each(element: DataElement, change: Any) -> Any:
    """Change every value of an element; what has become empty is null."""
    value = element.value
    if value is None or value == "":
        return None
    values = list(value) if element.VM > 1 else [value]
    changed = [change(str(part)) for part in values]
    return changed if len(changed) > 1 else changed[0] or None


def _make_dummy(element: DataElement, subject: Subject) -> None:
    if element.VR == "SQ":
        for item in element.value:
            for tag in list(item.keys()):
                inner = None if tag.is_private else _readable(item, tag)
                if inner is None:
                    del item[tag]
                else:
                    _make_dummy(inner, subject)
    elif element.VR == "UI":
        _replace_uids(element, subject)
    else:
        element.value = _DUMMIES.get(element.VR, _DUMMY_TEXT)


def _replace_uids(element: DataElement, subject: Subject) -> None:
    before = str(element.value)
    element.value = _each(element, lambda uid: _replaced(uid.strip().strip("\0"), element.keyword, subject.key))
    subject.done["UIDs replaced"] += before != str(element.value)


def _replaced(uid: str, keyword: str, key: bytes) -> str:
    """The keyed UID; what the standard registers stays, also classes and syntaxes newer than pydicom's list."""
    from pydicom.uid import UID_dictionary

    named_by_standard = uid.startswith(_STANDARD_ROOT) and keyword.endswith(("ClassUID", "SyntaxUID"))
    return uid if not uid or uid in UID_dictionary or named_by_standard else keyed_uid(key, uid)


def _shifted(value: str, vr: str, days: int) -> str:
    """A DA or DT value moved by whole days; a time of day stays; what is no whole date becomes a dummy."""
    value = value.strip()
    if vr == "TM":
        return value if re.fullmatch(r"[\d:.]+", value) else _DUMMIES["TM"]
    match = re.fullmatch(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)([\d.]*(?:[+-]\d{4})?)", value)
    try:
        moved = date(*(int(part) for part in match.groups()[:3])) + timedelta(days=days) if match else None
    except (ValueError, OverflowError):
        moved = None
    if match is None or moved is None:
        return str(_DUMMIES[vr])
    return f"{moved:%Y%m%d}".rjust(8, "0") + (match[4] if vr == "DT" else "")


def _capped_age(value: str) -> str:
    match = _AGE.fullmatch(value.strip())
    return f"{_OLDEST_AGE_YEARS + 1:03}Y" if match and int(match[1]) > _OLDEST_AGE_YEARS else value


def _remove_unsafe_private(dataset: Dataset, subject: Subject) -> None:
    """Keep private elements that Table E.3.10-1 calls safe, with their creators; remove all others at this level."""
    creators: dict[tuple[int, int], str] = {}
    for tag in list(dataset.keys()):
        if tag.is_private and tag.is_private_creator:
            creators[tag.group, tag.element] = str(dataset[tag].value)
    kept: set[tuple[int, int]] = set()
    for tag in list(dataset.keys()):
        if tag.is_private and not tag.is_private_creator:
            block = (tag.group, tag.element >> 8)
            if (creators.get(block, ""), tag.group, tag.element & 0xFF) in SAFE_PRIVATE and dataset[tag].VR != "SQ":
                kept.add(block)
            else:
                del dataset[tag]
                subject.done["private removed"] += 1
    for place in creators.keys() - kept:
        del dataset[place]


def _naming_words(dataset: Dataset) -> Iterator[str]:
    """Yield the words of names and identifiers anywhere in a data set, in lower case."""
    for tag in list(dataset.keys()):
        element = _readable(dataset, tag)
        if element is None or tag.is_private:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from _naming_words(item)
        elif element.VR == "PN":
            yield from (word.lower() for word in re.split(r"[\W_]+", str(element.value)) if len(word) >= _SHORTEST_NAME)
        elif element.keyword in _NAMING:
            values = element.value if element.VM > 1 else [element.value]
            yield from (word for value in values if len(word := str(value).strip().lower()) >= _SHORTEST_NUMBER)


def _take_out_words(dataset: Dataset, subject: Subject) -> None:
    """Empty kept texts in which a word stands that names the patient, as operators like to type them."""
    if not subject.words:
        return
    pattern = re.compile("|".join(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])" for word in sorted(subject.words)))
    for element in dataset.iterall():
        text = str(element.value).lower() if element.VR in _TEXTS and element.keyword != "PatientID" else ""
        if pattern.search(text):
            element.value = None
            subject.done["text with a name emptied"] += 1


def _mark(dataset: Dataset, subject: Subject) -> None:
    from pydicom import Sequence

    from careloop import __version__

    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"careloop {__version__}, PS3.15 Table E.1-1 {EDITION}"
    dataset.DeidentificationMethodCodeSequence = Sequence()
    dataset.LongitudinalTemporalInformationModified = "MODIFIED" if subject.options.shift_days else "REMOVED"
    for code in subject.options.methods():
        add_method(dataset, code)


def add_method(dataset: Dataset, code: str) -> None:
    """Add one method (CID 7050) to the list of what was done."""
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", METHODS[code]
    dataset.DeidentificationMethodCodeSequence.append(item)
