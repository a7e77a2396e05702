"""Vocabulary prefixes of codes, from FHIR systems, OIDs, HL7 table 0396 names and OMOP vocabulary ids."""

from __future__ import annotations

# One spelling for each terminology, whatever format it came in, so that `LOINC//2160-0` is the same code everywhere.
STANDARD = (
    "ATC", "CDT", "CPT4", "CVX", "HCPCS", "HGNC", "ICD10", "ICD10CM", "ICD10PCS", "ICD9CM", "ICD9PROC", "ICDO3",
    "LOINC", "MEDDRA", "NDC", "RXNORM", "SNOMED", "UNII",
)  # fmt: skip
MAX_LOCAL = 80  # characters of a text that stands in for a code (`LOCAL//`)
_BY_NAME = {
    "http://www.whocc.no/atc": "ATC", "2.16.840.1.113883.6.73": "ATC", "WC": "ATC",
    "http://www.ada.org/cdt": "CDT", "2.16.840.1.113883.6.13": "CDT",
    "http://www.ama-assn.org/go/cpt": "CPT4", "2.16.840.1.113883.6.12": "CPT4", "C4": "CPT4", "CPT": "CPT4",
    "C5": "CPT4",
    "http://hl7.org/fhir/sid/cvx": "CVX", "2.16.840.1.113883.12.292": "CVX",
    "https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets": "HCPCS", "2.16.840.1.113883.6.285": "HCPCS",
    "HPC": "HCPCS",
    "http://www.genenames.org/geneId": "HGNC", "http://www.genenames.org": "HGNC",
    "http://hl7.org/fhir/sid/icd-10": "ICD10", "2.16.840.1.113883.6.3": "ICD10", "I10": "ICD10",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD10CM", "2.16.840.1.113883.6.90": "ICD10CM", "I10C": "ICD10CM",
    "http://www.cms.gov/Medicare/Coding/ICD10": "ICD10PCS", "2.16.840.1.113883.6.4": "ICD10PCS", "I10P": "ICD10PCS",
    "http://hl7.org/fhir/sid/icd-9-cm": "ICD9CM", "2.16.840.1.113883.6.103": "ICD9CM", "I9C": "ICD9CM", "I9": "ICD9CM",
    "2.16.840.1.113883.6.104": "ICD9PROC", "I9CP": "ICD9PROC",
    "http://terminology.hl7.org/CodeSystem/icd-o-3": "ICDO3", "2.16.840.1.113883.6.43.1": "ICDO3",
    "http://loinc.org": "LOINC", "2.16.840.1.113883.6.1": "LOINC", "LN": "LOINC",
    "https://www.meddra.org": "MEDDRA", "2.16.840.1.113883.6.163": "MEDDRA", "MDR": "MEDDRA",
    "http://hl7.org/fhir/sid/ndc": "NDC", "2.16.840.1.113883.6.69": "NDC",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RXNORM", "2.16.840.1.113883.6.88": "RXNORM",
    "RXNORM EXTENSION": "RXNORM",
    "http://snomed.info/sct": "SNOMED", "2.16.840.1.113883.6.96": "SNOMED", "SCT": "SNOMED", "SNM3": "SNOMED",
    "SNM": "SNOMED", "http://fdasis.nlm.nih.gov": "UNII", "2.16.840.1.113883.4.9": "UNII",
}  # fmt: skip
PREFIX = {name.upper(): prefix for name, prefix in _BY_NAME.items()} | {name: name for name in STANDARD}


def prefix_of(system: str | None) -> str:
    """Return the prefix of a code system: its one spelling if it is a standard terminology, else its last part.

    A local system keeps a readable name (`http://hospital.example/labs` gives `labs`); no system gives `LOCAL`.
    """
    if not system:
        return "LOCAL"
    name = system.strip().removeprefix("urn:oid:").removeprefix("urn:iso:").upper()
    if name in PREFIX:
        return PREFIX[name]
    return system.strip().rstrip("/").rpartition("/")[2].replace("//", "/") or "LOCAL"


def is_standard(code: str) -> bool:
    """True where the code, or what follows its role (`ALLERGY//RXNORM//7980`), is of a standard terminology."""
    return any(part in STANDARD for part in code.split("//")[:-1])
