"""Runs of JSON pieces to batches: every resource gives events, or is counted with its reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import polars as pl

from careloop.ingest.concepts import SkipError, WithdrawnError
from careloop.ingest.delivery import CODES, WITHDRAWN, Batch, Reject
from careloop.ingest.fhir import clinical, medications, people
from careloop.ingest.fhir.decoding import Broken, Decoded, Skipped, decode, decoded, entry_of, reason_of
from careloop.ingest.fhir.elements import Row
from careloop.ingest.fhir.kinds import why_not_read
from careloop.ingest.fhir.neighbours import Neighbours, id_in
from careloop.ingest.fhir.observation import Usual, observation
from careloop.ingest.fhir.pieces import Run
from careloop.ingest.fhir.reading import Reading
from careloop.ingest.fhir.shapes import Bundle, Entry, Medication, Observation, Patient, Resource
from careloop.ingest.fhir.table import arriving, rows_frame
from careloop.ingest.fhir.times import spans

_EVENTS_OF: dict[str, Callable[..., list[Row]]] = {
    "AllergyIntolerance": clinical.allergy_intolerance,
    "Condition": clinical.condition,
    "DiagnosticReport": clinical.diagnostic_report,
    "DocumentReference": clinical.document_reference,
    "Encounter": people.encounter,
    "FamilyMemberHistory": people.family_member_history,
    "ImagingStudy": clinical.imaging_study,
    "Immunization": clinical.immunization,
    "MedicationAdministration": medications.medication_administration,
    "MedicationDispense": medications.medication_dispense,
    "MedicationRequest": medications.medication_request,
    "MedicationStatement": medications.medication_statement,
    "MolecularSequence": clinical.molecular_sequence,
    "Observation": observation,
    "Patient": people.patient,
    "Procedure": clinical.procedure,
    "QuestionnaireResponse": people.questionnaire_response,
    "Specimen": clinical.specimen,
}


BLOCK = 500  # resources decoded at a time: as many as the processor's cache holds


@dataclass
class _Work:
    """A run on its way to a batch: its pieces, bundles opened up, and what became of each."""

    run: Run
    raws: list[bytes]  # the run's, and after them those of bundles in it
    entries: dict[int, Entry] = field(default_factory=dict)
    inner: dict[int, tuple[str, Reading]] = field(default_factory=dict)  # place and surroundings of bundles' entries
    rows: list[tuple[int, str, str, str | None, Row]] = field(default_factory=list)
    merges: list[tuple[int, tuple[str, str]]] = field(default_factory=list)
    withdrawn: list[tuple[str, str | None]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: dict[int, str] = field(default_factory=dict)
    bundles: int = 0  # pieces that are counted by their entries

    def place(self, at: int) -> str:
        """Say where a piece stands."""
        return self.inner[at][0] if at in self.inner else f"{self.run.kind} {self.run.numbers[at]}"


def batch_of(run: Run, reading: Reading) -> Batch:
    """Return what a run of pieces gives."""
    work, usual = _Work(run, list(run.raws)), Usual(reading)
    start = 0
    while start < len(work.raws):  # grows with the entries of bundles
        end = len(run.raws) if start < len(run.raws) else len(work.raws)
        places = range(start, min(start + BLOCK, end))
        resources = _decode(work, places)
        if set(map(type, resources)) == {Observation} and not work.entries:
            left: Iterable[tuple[int, Decoded | Entry]] = usual.add(places, resources)  # type: ignore[arg-type]
        else:
            plain, left = _parted(work, places, resources)
            left += usual.add([at for at, _ in plain], [resource for _, resource in plain])
        for at, resource in left:
            _read_one(work, at, resource, reading)
        start = places.stop
    rows = usual.frame()
    if work.rows:
        rows = pl.concat([rows, rows_frame(work.rows)]).sort("at", maintain_order=True)
    return _batch(work, rows, reading)


def _decode(work: _Work, places: range) -> Sequence[Decoded | Entry]:
    """Return the resources of some pieces, opening up entries."""
    raws = work.raws[places.start : places.stop]
    if work.run.kind == "entry" or places.start in work.inner:
        return [_entered(work, at, raw) for at, raw in zip(places, raws, strict=True)]
    try:
        return [decode(raw) for raw in raws]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return [decoded(raw) for raw in raws]


def _parted(
    work: _Work, places: range, resources: Sequence[Decoded | Entry]
) -> tuple[list[tuple[int, Observation]], list[tuple[int, Decoded | Entry]]]:
    """Part the observations about which no bundle around them says anything more from all else."""
    plain: list[tuple[int, Observation]] = []
    left: list[tuple[int, Decoded | Entry]] = []
    for at, resource in zip(places, resources, strict=True):
        entry = work.entries.get(at)
        says_more = at in work.inner or (entry is not None and entry.response is not None)
        if isinstance(resource, Observation) and (
            not says_more or (resource.meta is not None and resource.meta.last_updated and at not in work.inner)
        ):
            plain.append((at, resource))
        else:
            left.append((at, resource))
    return plain, left


def _entered(work: _Work, at: int, raw: bytes) -> Decoded | Entry:
    entry = entry_of(raw)
    if isinstance(entry, Broken):
        return entry
    work.entries[at] = entry
    if entry.request is not None and entry.request.method == "DELETE":
        return entry
    return decoded(entry.resource) if bytes(entry.resource) else Skipped("Bundle entry: no resource")


def _open_up(work: _Work, at: int, bundle: Bundle, reading: Reading) -> None:
    """Queue the entries of a bundle that is a piece of the run."""
    if not bundle.entry:
        work.skipped["Bundle: no entries"] += 1
        return
    work.bundles += 1
    raws = [bytes(raw) for raw in bundle.entry]
    inside = replace(reading, neighbours=Neighbours(lambda: resources_in(raws)), subjects={})
    for number, raw in enumerate(raws, 1):
        work.inner[len(work.raws)] = (f"entry {number} of {work.place(at)}", inside)
        work.raws.append(raw)


def resources_in(entries: Iterable[bytes]) -> Iterator[tuple[str | None, bytes]]:
    """Yield fullUrl and JSON of each resource in the entries of a bundle."""
    for raw in entries:
        entry = entry_of(raw)
        if isinstance(entry, Entry) and bytes(entry.resource):
            yield entry.full_url, bytes(entry.resource)


def _read_one(work: _Work, at: int, resource: Decoded | Entry, reading: Reading) -> None:
    if isinstance(resource, Broken):
        work.rejected[at] = resource.reason
    elif isinstance(resource, Skipped):
        work.skipped[resource.reason] += 1
    elif isinstance(resource, Medication):
        work.skipped["Medication: not about a patient"] += 1
    elif isinstance(resource, Entry):
        _delete(work, resource, reading)
    else:
        around = work.inner[at][1] if at in work.inner else reading
        if isinstance(resource, Bundle):
            _open_up(work, at, resource, around)
        else:
            _read_resource(work, at, resource, around)


def _delete(work: _Work, entry: Entry, reading: Reading) -> None:
    url, asked, _ = ((entry.request and entry.request.url) or "").partition("?")
    id_, kind = id_in(url), "/".join(url.partition("/_history/")[0].split("/")[-2:-1])
    if id_ is None or asked:
        work.skipped["deletion: names no resource"] += 1
    elif kind in _EVENTS_OF:
        work.withdrawn.append((reading.source(kind, id_), entry.response.last_modified if entry.response else None))
    else:
        work.skipped[why_not_read(kind) or "deletion: names no resource"] += 1


def _read_resource(work: _Work, at: int, resource: Resource | Observation, reading: Reading) -> None:
    kind, entry = type(resource).__name__, work.entries.get(at, Entry())
    own = resource.id or id_in(entry.full_url)
    source = reading.source(kind, own or f"content-{hashlib.blake2b(work.raws[at], digest_size=8).hexdigest()}")
    updated = (resource.meta and resource.meta.last_updated) or (entry.response and entry.response.last_modified)
    version = (source, updated or None)
    try:
        subject = _subject_of(resource, own, reading)
        rows = _EVENTS_OF[kind](resource, reading)
        merges = list(people.merges_of(resource, subject, reading)) if isinstance(resource, Patient) else []
        if not rows and not merges:
            raise SkipError(f"{kind}: says nothing that is read")
        work.rows += [(at, subject, *version, row) for row in rows]
        work.merges += [(at, pair) for pair in merges]
    except WithdrawnError:
        work.withdrawn.append(version)
    except SkipError as reason:
        # An earlier version may have said something.
        work.skipped[str(reason)] += 1
        work.withdrawn += [version] if own else []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        work.rejected[at] = reason_of(error, f"{kind}.code")


def _subject_of(resource: Resource | Observation, own: str | None, reading: Reading) -> str:
    kind = type(resource).__name__
    if resource.modifier_extension:
        # It may turn the meaning round; FHIR forbids to read on without knowing it (R4 section 2.4.1.1).
        raise SkipError(f"{kind}: a modifier extension that is not understood")
    if not isinstance(resource, Patient):
        return reading.subject_of(resource.subject or resource.patient, resource)
    subject = reading.subject(own) if own is not None else reading.numbered(resource)
    if subject is None:
        raise SkipError("Patient: neither id nor identifier")
    return subject


def _batch(work: _Work, rows: pl.DataFrame, reading: Reading) -> Batch:
    events, faulty = arriving(rows)
    for at, source, fault in faulty:
        work.rejected[at] = f"{source.removeprefix(reading.sources).partition('/')[0]}: {fault}"
    rejected = [
        Reject(work.place(at), reason, work.raws[at].decode(errors="replace"))
        for at, reason in sorted(work.rejected.items())
    ]
    sources, times = zip(*work.withdrawn, strict=True) if work.withdrawn else ((), ())
    withdrawn = pl.DataFrame(
        {"source": sources, "source_time": spans(pl.Series(times, dtype=pl.String))["start"]}, schema=WITHDRAWN
    )
    read = len(work.raws) - work.bundles
    codes = pl.DataFrame({"code": list(reading.codes), "description": list(reading.codes.values())}, schema=CODES)
    reading.codes.clear()
    return Batch(
        events,
        rows_read=read,
        rows_kept=read - len(rejected) - work.skipped.total(),
        rejected=rejected,
        skipped=dict(sorted(work.skipped.items())),
        withdrawn=withdrawn,
        merges=[pair for at, pair in work.merges if at not in work.rejected],
        codes=codes,
    )
