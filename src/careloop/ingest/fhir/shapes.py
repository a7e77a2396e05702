"""FHIR resources (R4 and R5) as far as they become events, as msgspec structs; all other elements are passed over."""

from __future__ import annotations

from msgspec import Raw, field

from careloop.ingest.concepts import AnyCode, Coding, Concept, Element
from careloop.ingest.fhir.datatypes import (
    Attachment,
    ConceptOrReference,
    Extended,
    Extension,
    Identifier,
    Meta,
    Period,
    Quantity,
    Range,
    Ratio,
    Reference,
    Timing,
)


class Measured(Element):
    """What Observation and its components share: a code and a value of one of many kinds.

    The code stays undecoded: a file has millions of observations and only some thousand codes.
    """

    code: Raw = Raw()
    value_quantity: Quantity | None = None
    value_codeable_concept: Concept | None = None
    value_string: str | None = None
    value_boolean: bool | None = None
    value_integer: float | None = None
    value_range: Range | None = None
    value_ratio: Ratio | None = None
    value_sampled_data: Raw = Raw()
    value_time: str | None = None
    value_date_time: str | None = None
    value_period: Period | None = None
    value_attachment: Attachment | None = None
    data_absent_reason: Concept | None = None
    interpretation: list[Concept] | None = None
    modifier_extension: list[Raw] | None = None


class Resource(Element, tag_field="resourceType"):
    """What all resources that are read share."""

    id: str | None = None
    meta: Meta | None = None
    status: str | None = None
    subject: Reference | None = None
    patient: Reference | None = None
    contained: list[Raw] | None = None
    modifier_extension: list[Raw] | None = None


class Observation(Measured, tag_field="resourceType"):
    """Something measured, observed or asked: a Resource and Measured in one, as structs cannot inherit from two."""

    id: str | None = None
    meta: Meta | None = None
    status: str | None = None
    subject: Reference | None = None
    patient: Reference | None = None
    contained: list[Raw] | None = None
    focus: list[Reference] | None = None
    effective_date_time: str | None = None
    effective_period: Period | None = None
    effective_instant: str | None = None
    effective_timing: Timing | None = None
    issued: str | None = None
    component: list[Measured] | None = None


class Link(Element):
    """Patient.link."""

    other: Reference | None = None
    type: str | None = None


class Communication(Element):
    """Patient.communication."""

    language: Concept | None = None
    preferred: bool | None = None


class Patient(Resource):
    """The person."""

    identifier: list[Identifier] | None = None
    gender: str | None = None
    birth_date: str | None = None
    birth_date_extended: Extended | None = field(default=None, name="_birthDate")
    deceased_date_time: str | None = None
    marital_status: Concept | None = None
    communication: list[Communication] | None = None
    link: list[Link] | None = None
    extension: list[Extension] | None = None


class Discharge(Element):
    """Encounter.hospitalization (R4), Encounter.admission (R5)."""

    discharge_disposition: Concept | None = None


class Encounter(Resource):
    """A visit."""

    visit_class: AnyCode | list[AnyCode] | None = field(default=None, name="class")
    period: Period | None = None
    actual_period: Period | None = None
    hospitalization: Discharge | None = None
    admission: Discharge | None = None


class Condition(Resource):
    """A diagnosis or problem."""

    code: Concept | None = None
    verification_status: Concept | None = None
    onset_date_time: str | None = None
    onset_period: Period | None = None
    abatement_date_time: str | None = None
    abatement_period: Period | None = None
    recorded_date: str | None = None


class Medication(Resource):
    """A drug that others refer to; no fact about a patient itself."""

    code: Concept | None = None
    ingredient: list[Ingredient] | None = None


class Ingredient(Element):
    """What a Medication contains."""

    item_codeable_concept: Concept | None = None
    item: ConceptOrReference | None = None


class DoseAndRate(Element):
    """A dose of a dosage instruction."""

    dose_quantity: Quantity | None = None


class Dosage(Element):
    """Dosage instruction, or the dosage of an administration."""

    dose_and_rate: list[DoseAndRate] | None = None
    dose: Quantity | None = None


class Medicated(Resource):
    """What all medication resources share: which drug, in R4's two forms and R5's."""

    medication_codeable_concept: Concept | None = None
    medication_reference: Reference | None = None
    medication: ConceptOrReference | None = None


class MedicationRequest(Medicated):
    """A prescription."""

    intent: str | None = None
    do_not_perform: bool | None = None
    authored_on: str | None = None
    status_changed: str | None = None
    dosage_instruction: list[Dosage] | None = None


class MedicationAdministration(Medicated):
    """A drug given. R5 as published spells `occurence` with one r."""

    effective_date_time: str | None = None
    effective_period: Period | None = None
    occurence_date_time: str | None = None
    occurence_period: Period | None = None
    occurrence_date_time: str | None = None
    occurrence_period: Period | None = None
    recorded: str | None = None
    dosage: Dosage | None = None


class Adherence(Element):
    """MedicationStatement.adherence (R5)."""

    code: Concept | None = None


class MedicationStatement(Medicated):
    """A drug that the patient is said to take."""

    effective_date_time: str | None = None
    effective_period: Period | None = None
    date_asserted: str | None = None
    dosage: list[Dosage] | None = None
    adherence: Adherence | None = None


class MedicationDispense(Medicated):
    """A drug handed out."""

    when_prepared: str | None = None
    when_handed_over: str | None = None
    recorded: str | None = None
    dosage_instruction: list[Dosage] | None = None


class Procedure(Resource):
    """What was done."""

    code: Concept | None = None
    performed_date_time: str | None = None
    performed_period: Period | None = None
    occurrence_date_time: str | None = None
    occurrence_period: Period | None = None
    recorded: str | None = None


class Immunization(Resource):
    """A vaccination."""

    vaccine_code: Concept | None = None
    occurrence_date_time: str | None = None
    recorded: str | None = None
    dose_quantity: Quantity | None = None


class Reaction(Element):
    """AllergyIntolerance.reaction."""

    substance: Concept | None = None


class AllergyIntolerance(Resource):
    """What the patient must not get."""

    code: Concept | None = None
    clinical_status: Concept | None = None
    verification_status: Concept | None = None
    onset_date_time: str | None = None
    onset_period: Period | None = None
    recorded_date: str | None = None
    reaction: list[Reaction] | None = None


class DiagnosticReport(Resource):
    """A report over observations or images."""

    code: Concept | None = None
    effective_date_time: str | None = None
    effective_period: Period | None = None
    issued: str | None = None
    conclusion: str | None = None
    conclusion_code: list[Concept] | None = None
    presented_form: list[Attachment] | None = None


class Relative(Element):
    """A condition of a relative (FamilyMemberHistory.condition)."""

    code: Concept | None = None


class FamilyMemberHistory(Resource):
    """Conditions of one relative."""

    relationship: Concept | None = None
    date: str | None = None
    condition: list[Relative] | None = None


class Series(Element):
    """ImagingStudy.series."""

    uid: str | None = None
    modality: AnyCode | None = None
    body_site: AnyCode | None = None
    started: str | None = None
    number_of_instances: float | None = None


class ImagingStudy(Resource):
    """Images of one examination; the pixels stay where they are."""

    identifier: list[Identifier] | None = None
    started: str | None = None
    modality: list[AnyCode] | None = None
    series: list[Series] | None = None


class DocumentContent(Element):
    """DocumentReference.content."""

    attachment: Attachment | None = None


class DocumentReference(Resource):
    """A document and where it lies."""

    doc_status: str | None = None
    type: Concept | None = None
    date: str | None = None
    content: list[DocumentContent] | None = None


class Collection(Element):
    """Specimen.collection."""

    collected_date_time: str | None = None
    collected_period: Period | None = None


class Specimen(Resource):
    """Material taken from the patient."""

    type: Concept | None = None
    received_time: str | None = None
    collection: Collection | None = None


class Repository(Element):
    """Where a sequence is kept."""

    url: str | None = None
    dataset_id: str | None = None
    variantset_id: str | None = None
    readset_id: str | None = None


class MolecularSequence(Resource):
    """A sequence of the patient."""

    type: str | AnyCode | None = None
    repository: list[Repository] | None = None
    formatted: list[Attachment] | None = None


class Answer(Element):
    """QuestionnaireResponse.item.answer, which may ask further questions."""

    value_boolean: bool | None = None
    value_decimal: float | None = None
    value_integer: float | None = None
    value_date: str | None = None
    value_date_time: str | None = None
    value_time: str | None = None
    value_string: str | None = None
    value_coding: Coding | None = None
    value_quantity: Quantity | None = None
    item: list[Item] | None = None


class Item(Element):
    """QuestionnaireResponse.item."""

    link_id: str | None = None
    text: str | None = None
    answer: list[Answer] | None = None
    item: list[Item] | None = None


class QuestionnaireResponse(Resource):
    """A filled-in form."""

    questionnaire: str | None = None
    authored: str | None = None
    item: list[Item] | None = None


class Request(Element):
    """Bundle.entry.request."""

    method: str | None = None
    url: str | None = None


class Response(Element):
    """Bundle.entry.response."""

    last_modified: str | None = None


class Entry(Element):
    """Bundle.entry."""

    full_url: str | None = None
    resource: Raw = Raw()
    request: Request | None = None
    response: Response | None = None


class Bundle(Resource):
    """Several resources in one."""

    entry: list[Raw] | None = None


class Other(Element):
    """A resource of a kind that is not read; only whether it is about a patient is looked at."""

    resource_type: str | None = None
    subject: Raw = Raw()
    patient: Raw = Raw()


READ = (
    Observation | Patient | Encounter | Condition | Medication | MedicationRequest | MedicationAdministration
    | MedicationStatement | MedicationDispense | Procedure | Immunization | AllergyIntolerance | DiagnosticReport
    | FamilyMemberHistory | ImagingStudy | DocumentReference | Specimen | MolecularSequence | QuestionnaireResponse
    | Bundle
)  # fmt: skip
