"""Patients and drugs that stand in the same bundle or files, for references to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import msgspec

from careloop.ingest.fhir.shapes import Medication, Other, Patient

_NEIGHBOUR = msgspec.json.Decoder(Patient | Medication)
_OTHER = msgspec.json.Decoder(Other)
# What else than a Patient may be the subject of a resource that is read (R5 Observation.subject and others).
_OTHERS = frozenset(
    {
        "BiologicallyDerivedProduct", "Device", "Group", "Location", "NutritionProduct", "Organization", "Practitioner",
        "Procedure", "Substance",
    }
)  # fmt: skip
_OTHERS_WRITTEN = tuple(f'"{kind}"'.encode() for kind in sorted(_OTHERS))
Surroundings = Callable[[], Iterator[tuple[str | None, bytes]]]


@dataclass(frozen=True)
class Neighbours:
    """Patients and Medications that stand in the same bundle or files; `resources` gives (fullUrl, JSON) of each.

    They are looked through once, and only if a reference asks for them.
    """

    resources: Surroundings = lambda: iter(())

    def patient(self, key: str) -> str | None:
        """Return the id of the patient with this fullUrl or `system|value`."""
        return self._found[0].get(key)

    def medication(self, reference: str) -> Medication | None:
        """Return the Medication with this fullUrl or `Medication/id`."""
        return self._found[1].get(reference)

    def is_no_patient(self, reference: str) -> bool:
        """True where a group, device, place or another subject has this fullUrl."""
        return reference in self._found[2]

    @cached_property
    def _found(self) -> tuple[dict[str, str], dict[str, Medication], set[str]]:
        patients: dict[str, str] = {}
        medications: dict[str, Medication] = {}
        others: set[str] = set()
        for full_url, raw in self.resources():
            if full_url and _is_other(raw):
                others.add(full_url)
            if b'"Patient"' not in raw and b'"Medication"' not in raw:
                continue
            resource = held_in(raw)
            if resource is None:
                continue
            own = resource.id or id_in(full_url)
            if isinstance(resource, Medication):
                medications |= {key: resource for key in (full_url, f"Medication/{own}") if key}
            elif own is not None:
                keys = (full_url, *(f"{i.system or ''}|{i.value}" for i in resource.identifier or () if i.value))
                patients |= {key: own for key in keys if key}
        return patients, medications, others


def id_in(reference: str | None, *, kind: str | None = None) -> str | None:
    """Return the id that a URL or urn ends in; with `kind`, only that of a reference to this kind of resource."""
    if not reference:
        return None
    if reference.startswith("urn:"):
        return None if kind is not None else reference.rpartition(":")[2] or None
    parts = reference.partition("/_history/")[0].split("/")
    if len(parts) < 2 or not parts[-1] or (kind is not None and parts[-2] != kind):
        return None
    return parts[-1]


def held_in(raw: bytes | msgspec.Raw) -> Patient | Medication | None:
    """Decode a Patient or a Medication; None for all else."""
    try:
        return _NEIGHBOUR.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _is_other(raw: bytes) -> bool:
    """True for a resource of a kind that may be a subject and is no patient."""
    if not any(kind in raw for kind in _OTHERS_WRITTEN):
        return False
    try:
        return _OTHER.decode(raw).resource_type in _OTHERS
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
