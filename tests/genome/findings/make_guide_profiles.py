"""Make guide_profiles.json: what HL7's Genomics Reporting guide STU3 (CC0) fixes in the profiles that careloop writes.

    git clone https://github.com/HL7/genomics-reporting && git -C genomics-reporting checkout 3.0.0-published
    cd tests/genome/findings
    python make_guide_profiles.py .../genomics-reporting/input/fsh guide_profiles.json

Of each profile, with those of its parents: the code, the components by their code with the type of their value, what is
not allowed (0..0), what must be there, and the extensions by name.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

PROFILES = (
    "variant", "genotype", "molecular-consequence", "diagnostic-implication", "therapeutic-implication",
    "genomic-report", "genomic-study", "genomic-study-analysis",
)  # fmt: skip
FILES = ("CGGeneral", "CGFindings", "CGImplications", "GGGenomicStudy")


def read(folder: Path) -> dict[str, Any]:
    text = "\n".join((folder / f"{name}.fsh").read_text(encoding="utf-8") for name in FILES)
    text = re.sub(r"^\s*//.*$", "", text, flags=re.M)
    aliases = dict(re.findall(r"Alias:\s*(\$\S+)\s*=\s*(\S+)", (folder / "Aliases.fsh").read_text(encoding="utf-8")))
    aliases["TbdCodesCS"] = "http://hl7.org/fhir/uv/genomics-reporting/CodeSystem/tbd-codes-cs"
    blocks = re.split(r"\n(?=(?:Profile|Extension|Instance|CodeSystem|ValueSet):)", text)
    by_name = {m[1]: block for block in blocks if (m := re.match(r"Profile:\s*(\S+)", block))}
    ids = {m[1]: name for name, block in by_name.items() if (m := re.search(r"^Id:\s*(\S+)", block, re.M))}
    return {profile: whole(ids[profile], by_name, aliases) for profile in PROFILES}


def whole(name: str, by_name: dict[str, str], aliases: dict[str, str]) -> dict[str, Any]:
    block = by_name[name]
    parent = re.search(r"^Parent:\s*(\S+)", block, re.M)[1]  # type: ignore[index]
    found: dict[str, Any] = {"code": None, "components": {}, "forbidden": [], "required": [], "extensions": []}
    if parent in by_name:
        found = whole(parent, by_name, aliases)
    if code := re.search(r"^\* code = (\S+?)#(\S+)", block, re.M):
        found["code"] = [aliases[code[1]], code[2]]
    slices: dict[str, dict[str, str]] = {}
    for slice_, system, code_ in re.findall(r"^\* component\[([\w-]+)\]\.code = (\S+?)#(\S+)", block, re.M):
        slices[slice_] = {"system": aliases[system], "code": code_}
    for slice_, types in re.findall(r"^\* component\[([\w-]+)\]\.value\[x\] only (.+)$", block, re.M):
        slices[slice_]["type"] = types.strip()
    found["components"] |= {f"{s['system']}#{s['code']}": s["type"] for s in slices.values()}
    found["forbidden"] += re.findall(r"^\* ([\w\[\]]+) 0\.\.0", block, re.M)
    found["required"] += re.findall(r"^\* ([\w\[\]]+) 1\.\.[1*]", block, re.M)
    found["extensions"] += [_dashed(each) for each in re.findall(r"\bcontains (\w+) named|\band (\w+) named", block)]
    return found


def _dashed(names: tuple[str, str]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", names[0] or names[1]).lower()


if __name__ == "__main__":
    profiles = read(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(profiles, indent=1, sort_keys=True) + "\n", encoding="utf-8")
