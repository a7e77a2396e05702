"""Kinds of FHIR resources (R4 and R5) that give no events, and whether they are about a patient."""

from __future__ import annotations

# In FHIR's patient compartment, but planned, administrative or about other facts than those a record holds.
_ABOUT_PATIENTS = """
Account AdverseEvent Appointment AppointmentResponse
AuditEvent Basic BiologicallyDerivedProductDispense BodyStructure CarePlan CareTeam ChargeItem Claim ClaimResponse
ClinicalImpression Communication CommunicationRequest Composition Consent Contract Coverage CoverageEligibilityRequest
CoverageEligibilityResponse DetectedIssue DeviceAssociation DeviceDispense DeviceRequest DeviceUsage
DeviceUseStatement DocumentManifest EncounterHistory EnrollmentRequest EnrollmentResponse EpisodeOfCare
ExplanationOfBenefit Flag GenomicStudy Goal Group GuidanceResponse ImagingSelection ImmunizationEvaluation
ImmunizationRecommendation Invoice List MeasureReport Media NutritionIntake NutritionOrder Person Provenance
RelatedPerson RequestGroup RequestOrchestration ResearchSubject RiskAssessment ServiceRequest SupplyDelivery
SupplyRequest Task Transport VisionPrescription
"""
_ABOUT_OTHERS = """
ActivityDefinition ActorDefinition AdministrableProductDefinition ArtifactAssessment Binary BiologicallyDerivedProduct
CapabilityStatement CatalogEntry ChargeItemDefinition Citation ClinicalUseDefinition CodeSystem CompartmentDefinition
ConceptMap ConditionDefinition Device DeviceDefinition DeviceMetric EffectEvidenceSynthesis Endpoint EventDefinition
Evidence EvidenceReport EvidenceVariable ExampleScenario FormularyItem GraphDefinition HealthcareService
ImplementationGuide Ingredient InsurancePlan InventoryItem InventoryReport Library Linkage Location
ManufacturedItemDefinition Measure MedicationKnowledge MedicinalProduct MedicinalProductAuthorization
MedicinalProductContraindication MedicinalProductDefinition MedicinalProductIndication MedicinalProductIngredient
MedicinalProductInteraction MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical
MedicinalProductUndesirableEffect MessageDefinition MessageHeader NamingSystem NutritionProduct ObservationDefinition
OperationDefinition OperationOutcome Organization OrganizationAffiliation PackagedProductDefinition Parameters
PaymentNotice PaymentReconciliation Permission PlanDefinition Practitioner PractitionerRole Questionnaire
RegulatedAuthorization Requirements ResearchDefinition ResearchElementDefinition ResearchStudy RiskEvidenceSynthesis
Schedule SearchParameter Slot SpecimenDefinition StructureDefinition StructureMap Subscription SubscriptionStatus
SubscriptionTopic Substance SubstanceDefinition SubstanceNucleicAcid SubstancePolymer SubstanceProtein
SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification TerminologyCapabilities TestPlan
TestReport TestScript ValueSet VerificationResult
"""
ABOUT_PATIENTS = frozenset(_ABOUT_PATIENTS.split())
ABOUT_OTHERS = frozenset(_ABOUT_OTHERS.split())


def why_not_read(kind: str) -> str | None:
    """Say why a resource of this kind gives no events; None for a name that is no kind of resource."""
    if kind in ABOUT_PATIENTS:
        return f"{kind}: not read"
    return f"{kind}: not about a patient" if kind in ABOUT_OTHERS else None
