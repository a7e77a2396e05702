"""What one read of a FHIR file carries along: patients and drugs that references mean, and codes met."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

from careloop.ingest.concepts import Codes, Concept, SkipError
from careloop.ingest.fhir.datatypes import Identifier, Reference
from careloop.ingest.fhir.decoding import concept_of
from careloop.ingest.fhir.elements import concept_in
from careloop.ingest.fhir.neighbours import Neighbours, held_in, id_in
from careloop.ingest.fhir.shapes import Medicated, Medication, Observation, Patient, Resource

MAX_CACHED = 1_000_000  # patients and codes remembered at a time: some hundred MB


@dataclass(frozen=True)
class Reading:
    """The settings of a reader, and what it has met so far.

    `origin` is the namespace of the patients' FHIR ids; `patient_identifier` the system of the hospital's own patient
    numbers, which have no namespace, so that other formats meet them.
    """

    origin: str
    patient_identifier: str | None = None
    neighbours: Neighbours = field(default_factory=Neighbours)
    codes: Codes = field(default_factory=Codes)
    subjects: dict[str, str | None] = field(default_factory=dict)
    observed: dict[bytes, str | None] = field(default_factory=dict)

    def source(self, kind: str, id_: str) -> str:
        """Return the name of a source row."""
        return f"{self.sources}{kind}/{id_}"

    @property
    def sources(self) -> str:
        """What the names of all source rows begin with."""
        return f"FHIR//{self.origin}//" if self.origin else "FHIR//"

    def subject(self, id_: str) -> str:
        """Return the subject of a patient's FHIR id."""
        return f"{self.origin}:{id_}" if self.origin else id_

    def subject_of(self, reference: Reference | None, resource: Resource | Observation) -> str:
        """Return whose a resource is.

        Raises:
            SkipError: it is about something else, or does not say about whom.
        """
        kind = type(resource).__name__
        if reference is None:
            raise SkipError(f"{kind}: no subject")
        if reference.reference:
            inside = reference.reference.startswith("#")
            found = self._contained(reference.reference, resource) if inside else self.referred(reference.reference)
            if found is not None:
                return found
            if not inside:
                raise SkipError(f"{kind}: subject is not a patient")
        if reference.identifier is not None and reference.identifier.value:
            if reference.type not in {None, "Patient"}:
                raise SkipError(f"{kind}: subject is not a patient")
            return self.identified(reference.identifier)
        raise SkipError(f"{kind}: no subject")

    def _contained(self, reference: str, resource: Resource | Observation) -> str | None:
        held = (held_in(raw) for raw in resource.contained or ())
        patients = (each for each in held if isinstance(each, Patient) and each.id == reference[1:])
        return next(map(self.numbered, patients), None)

    def numbered(self, patient: Patient) -> str | None:
        """Return the subject of a patient who has business identifiers only: by the hospital's own number, if given."""
        numbers = [identifier for identifier in patient.identifier or () if identifier.value]
        numbers.sort(key=lambda identifier: identifier.system != self.patient_identifier)
        return self.identified(numbers[0]) if numbers else None

    def referred(self, reference: str) -> str | None:
        """Return the subject that a reference means, None where it means no patient."""
        if reference not in self.subjects:
            if len(self.subjects) > MAX_CACHED:
                self.subjects.clear()
            self.subjects[reference] = self._resolved(reference)
        return self.subjects[reference]

    def _resolved(self, reference: str) -> str | None:
        if reference.startswith("urn:"):
            if self.neighbours.is_no_patient(reference):
                return None
            # In a bundle without that patient the uuid itself is the best name: exports use it as the id as well.
            return self.subject(self.neighbours.patient(reference) or reference.rpartition(":")[2])
        _, marker, condition = reference.partition("Patient?identifier=")
        if marker:
            system, bar, value = unquote(condition.partition("&")[0]).rpartition("|")
            return self.identified(Identifier(system if bar else None, value))
        id_ = id_in(reference, kind="Patient")
        return None if id_ is None else self.subject(id_)

    def observed_code(self, concept: bytes) -> str | None:
        """Return the code of a CodeableConcept that is still JSON; a file has many observations and few codes.

        Raises:
            msgspec.MsgspecError: it is no CodeableConcept.
        """
        if concept not in self.observed:
            if len(self.observed) > MAX_CACHED:
                self.observed.clear()
            self.observed[concept] = self.codes.of(concept_of(concept)) if concept else None
        return self.observed[concept]

    def identified(self, identifier: Identifier) -> str:
        """Return the subject with a business identifier."""
        if identifier.system and identifier.system == self.patient_identifier:
            return str(identifier.value)
        key = f"{identifier.system or ''}|{identifier.value}"
        return self.subject(self.neighbours.patient(key) or key)

    def drug_of(self, resource: Medicated, kind: str) -> str:
        """Return the code of the drug.

        Raises:
            SkipError: there is none, or only a reference to a resource that is not here.
        """
        concept = resource.medication_codeable_concept or concept_in(resource.medication)
        code = self.codes.of(concept)
        reference = resource.medication_reference or (resource.medication.reference if resource.medication else None)
        if code is None and reference is not None:
            code = self._described(self._medication(reference, resource)) or self.codes.local(reference.display)
            if code is None:
                raise SkipError(f"{kind}: the medication it refers to is not in the same files")
        if code is None:
            raise SkipError(f"{kind}: no code")
        return code

    def _medication(self, reference: Reference, resource: Resource) -> Medication | None:
        key = reference.reference or ""
        if key.startswith("#"):
            held = (held_in(raw) for raw in resource.contained or ())
            return next((drug for drug in held if isinstance(drug, Medication) and drug.id == key[1:]), None)
        id_ = id_in(key, kind="Medication")
        found = self.neighbours.medication(key) if key else None
        return found or (None if id_ is None else self.neighbours.medication(f"Medication/{id_}"))

    def _described(self, drug: Medication | None) -> str | None:
        if drug is None:
            return None
        parts = [part.item_codeable_concept or concept_in(part.item) for part in drug.ingredient or ()]
        concepts: list[Concept | None] = [drug.code, *parts]
        return next((code for code in map(self.codes.of, concepts) if code is not None), None)
