"""A record and DICOM files de-identified with one key fit together: equal ids and shifts, addresses that lead on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from careloop import InputError
from careloop.clean.privacy.dicom.dataset import keyed_uid
from careloop.clean.privacy.pseudonyms import Pseudonyms
from careloop.record import Record
from careloop.record.delta import read_rows
from careloop.record.merges import survivors_of
from careloop.record.subjects import SUBJECTS

_ADDRESS = re.compile(r"dicom:study/[\d.]+(?:/series/[\d.]+(?:/instance/[\d.]+)?)?")
_UID = re.compile(r"(?<=/)[\d.]+")


@dataclass(frozen=True)
class PatientLinks:
    """New id and shift of a PatientID: those that its subject has in exports of the record under the same key.

    A PatientID that is not in `subjects` (source identifier to subject_id) gets an id and a shift of its own.
    """

    pseudonyms: Pseudonyms
    subjects: Mapping[str, int] = field(default_factory=dict)
    origin: str = ""

    def pseudonym(self, patient_id: str) -> str:
        """What stands in PatientID and PatientName."""
        return str(self.pseudonyms.subject_ids(self._subject(patient_id))[0])

    def shift_days(self, patient_id: str) -> int:
        """Days, all negative, that the patient's dates move by."""
        return int(self.pseudonyms.shift_days(self._subject(patient_id))[0])

    def _subject(self, patient_id: str) -> pl.Series:
        subject = self.subjects.get(f"{self.origin}:{patient_id}" if self.origin else patient_id)
        return pl.Series([f"dicom:{patient_id}"] if subject is None else [subject])


def patient_links(record: Record, pseudonyms: Pseudonyms, *, origin: str = "") -> PatientLinks:
    """Return how PatientIDs are replaced as the patients of `record` are; `origin` as when the files were ingested.

    All source identifiers of the record are held in memory (about 200 bytes each).

    Raises:
        InputError: the record was shared without `private/`, which says whose each identifier is.
    """
    folder = record.path / "private" / "subjects"
    if not folder.is_dir():
        raise InputError(f"{folder}: missing, this record was shared without it; name the record it came from")
    subjects = read_rows(folder, SUBJECTS)
    survivors = survivors_of(record)
    known = {source: survivors.get(subject, subject) for subject, source in subjects.iter_rows()}
    return PatientLinks(pseudonyms, known, origin)


def shared_assets(assets: pl.Series, pseudonyms: Pseudonyms) -> pl.Series:
    """Addresses of DICOM objects with the UIDs that `deidentify_dicom` gives them under the same key; tokens of others.

    Null stays null.
    """
    tokens = pseudonyms.tokens(assets)
    known = {address: _with_new_uids(address, pseudonyms.key) for address in assets.drop_nulls().unique()}
    new = [None if address is None else known[address] or token for address, token in zip(assets, tokens, strict=True)]
    return pl.Series(assets.name, new, dtype=pl.String())


def _with_new_uids(address: str, key: bytes) -> str | None:
    if not _ADDRESS.fullmatch(address):
        return None
    return _UID.sub(lambda match: keyed_uid(key, match[0]), address)
