"""Make examples.ndjson.xz from the npm packages of FHIR's own examples (CC0), one resource a line.

    npm pack hl7.fhir.r4.examples@4.0.1
    python tests/ingest/fhir/make_examples.py hl7.fhir.r4.examples-4.0.1.tgz tests/ingest/fhir/r4_examples.ndjson.xz

All 5,305 examples are there. Those of the kinds that define FHIR itself (160 MB of structure definitions, value sets
and the like, also within bundles) are shortened to their plain elements; all others are word for word.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

# What these hold is of no patient, and no reader of patient data looks into it.
SHORTENED = {
    "CapabilityStatement", "CodeSystem", "CompartmentDefinition", "ConceptMap", "ImplementationGuide", "Library",
    "NamingSystem", "OperationDefinition", "Questionnaire", "SearchParameter", "StructureDefinition", "StructureMap",
    "TestScript", "ValueSet",
}  # fmt: skip
_NAME = re.compile(r"package/[A-Z]\w+-.*\.json")


def examples(package: Path) -> list[dict[str, Any]]:
    """Return the examples of an npm package, in the order of their file names."""
    with tarfile.open(package) as archive:
        files = sorted((file for file in archive if _NAME.fullmatch(file.name)), key=lambda file: file.name)
        return [json.load(content) for file in files if (content := archive.extractfile(file))]


def shortened(resource: dict[str, Any]) -> dict[str, Any]:
    """Return the resource, without the lists and objects of those that define FHIR itself."""
    if resource["resourceType"] == "Bundle":
        return resource | {"entry": [_entry(entry) for entry in resource["entry"]]} if "entry" in resource else resource
    if resource["resourceType"] not in SHORTENED:
        return resource
    return {name: value for name, value in resource.items() if not isinstance(value, dict | list)}


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    return entry | {"resource": shortened(entry["resource"])} if "resource" in entry else entry


def main() -> int:
    """Write the file that is named second from the package that is named first."""
    package, target = map(Path, sys.argv[1:3])
    lines = [json.dumps(shortened(each), ensure_ascii=False, separators=(",", ":")) for each in examples(package)]
    text = "".join(line + "\n" for line in lines).encode()
    target.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    print(f"{target}: {len(lines):,} resources, {len(text) / 1e6:.0f} MB, {target.stat().st_size / 1e6:.2f} MB packed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
