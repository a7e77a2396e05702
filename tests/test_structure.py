"""The rooms import downwards only, stay small, and carry plain names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "careloop"
FLOOR = {
    "record": 0, "models": 0, "evaluate": 0,
    "ingest": 1, "clean": 1, "cohort": 1, "features": 1,
    "train": 2,
    "predict": 3, "imaging": 3, "genome": 3,
    "plan": 4, "outcome": 5, "monitor": 6, "report": 7, "study": 8, "serve": 9, "cli": 9,
}  # fmt: skip
FORMATS = {"fhir", "omop", "tabular", "hl7v2", "ccda", "cdisc", "dicom", "waveforms"}  # folders of ingest
# Rooms within the imaging room, each importing only from those before it.
IMAGING = (
    "gate",
    "read",
    "segment",
    "measure",
    "write",
    "phantom",
    "learn",
    "familiar",
    "restore",
    "classify",
    "detect",
    "explain",
)
# The same of the genome room.
GENOME = (
    *("files", "simulate", "genotypes", "variants", "annotate", "call", "pharmacogenes"),
    *("population", "association", "risk", "function", "findings"),
)
ROOMS_WITHIN = [("imaging", IMAGING), ("genome", GENOME)]
VAGUE_NAMES = {"utils", "helpers", "common", "manager", "base", "misc"}
MAX_LINES = 500
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.relative_to(SOURCE).with_suffix("").parts[0]


def imported_names(module: Path) -> list[list[str]]:
    """Dotted names that the module imports, at its top or inside its functions, in parts."""
    names: list[str] = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full, never relative"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name.split(".") for name in names]


def imported_rooms(module: Path) -> set[str]:
    return {p[1] for p in imported_names(module) if p[0] == "careloop" and len(p) > 1 and p[1] in FLOOR}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(SOURCE)))
def test_module_keeps_the_house_in_order(module: Path) -> None:
    room = room_of(module)
    if room not in {"__init__", "__main__"}:
        assert room in FLOOR, f"{room} is no room of the design"
        upwards = {r for r in imported_rooms(module) if r != room and FLOOR[r] >= FLOOR[room]}
        upwards -= {"serve"} if room == "cli" else set()
        assert not upwards, f"{room} imports {upwards}, which are not on a floor below"
    assert len(module.read_text().splitlines()) <= MAX_LINES
    assert not VAGUE_NAMES & set(module.relative_to(SOURCE).with_suffix("").parts)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_formats_do_not_import_from_each_other(name: str) -> None:
    """What two formats share stands beside their folders, so that each can be read, and changed, alone."""
    modules = list((SOURCE / "ingest" / name).rglob("*.py"))
    assert modules
    for module in modules:
        found = {p[2] for p in imported_names(module) if p[:2] == ["careloop", "ingest"] and len(p) > 2}
        others = found & FORMATS - {name}
        assert not others, f"{module.relative_to(SOURCE)} imports from {others}"


def test_what_formats_share_does_not_import_from_a_format() -> None:
    shared = [*(SOURCE / "ingest" / "tables").rglob("*.py"), SOURCE / "ingest" / "meds.py"]
    shared += [SOURCE / "ingest" / f"{name}.py" for name in ("concepts", "unpacking", "zones", "vocabularies")]
    for module in shared:
        assert not {p[2] for p in imported_names(module) if p[:2] == ["careloop", "ingest"]} & FORMATS, module


@pytest.mark.parametrize(("floor", "name"), [(floor, name) for floor, names in ROOMS_WITHIN for name in names])
def test_rooms_within_a_room_import_only_from_those_before(floor: str, name: str) -> None:
    order = dict(ROOMS_WITHIN)[floor]
    later = set(order[order.index(name) + 1 :])
    modules = list((SOURCE / floor / name).rglob("*.py"))
    assert modules
    for module in modules:
        found = {p[2] for p in imported_names(module) if p[:2] == ["careloop", floor] and len(p) > 2}
        assert not found & later, f"{module.relative_to(SOURCE)} imports from {found & later}"


@pytest.mark.parametrize(("floor", "names"), ROOMS_WITHIN)
def test_what_rooms_within_a_room_share_imports_from_none(floor: str, names: tuple[str, ...]) -> None:
    for module in (SOURCE / floor).glob("*.py"):
        if module.name != "__init__.py":
            found = {p[2] for p in imported_names(module) if p[:2] == ["careloop", floor] and len(p) > 2}
            assert not found & set(names), module
