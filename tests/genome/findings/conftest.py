"""A made-up patient's variant file with findings of it, and a record that knows the patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from careloop.genome.findings.finding import Coverage, GenomeFindings
from careloop.genome.findings.origin import sample_origin
from careloop.ingest import ingest_paths


def _module(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sample_genomes = _module(Path(__file__).parents[2] / "sample_genomes.py")


@dataclass
class Made:
    """A file in a folder, findings of it, and a record into which it was ingested (when asked for)."""

    folder: Path

    @cached_property
    def path(self) -> Path:
        return sample_genomes.vcf(self.folder / "a.vcf")

    @cached_property
    def record(self) -> Path:
        ingest_paths("vcf", [self.path], self.folder / "record")
        return self.folder / "record"

    def findings(self, **more: Any) -> GenomeFindings:
        return GenomeFindings(sample_origin(self.path), coverage=Coverage("the genes' defining positions"), **more)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """The file, `findings(pgx=..., variants=...)` of it, and a record with the file ingested."""
    return Made(tmp_path)


@pytest.fixture
def samples_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a samples file with these lines below its header."""

    def write(lines: str) -> Path:
        path = tmp_path / "samples.csv"
        path.write_text(f"sample,subject,time\n{lines}\n")
        return path

    return write


@pytest.fixture
def cases() -> ModuleType:
    """Findings by name, and the functions that make more."""
    return sample_genomes
