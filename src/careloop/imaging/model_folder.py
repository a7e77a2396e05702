"""What the folders of careloop's image models share: a versioned model.json, and weights it vouches for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from careloop import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
WARNING = "Not for clinical use. Research software; no regulator has reviewed this model."
Said = TypeVar("Said")


def versioned_json(said: DataclassInstance) -> str:
    """The text of model.json: every field, and as `version` the first 12 hex digits of SHA-256 over all the others."""
    document = asdict(said) | {"version": ""}
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return json.dumps(document | {"version": digest[:12]}, indent=1, ensure_ascii=False) + "\n"


def read_said(kind: type[Said], folder: Path, *, what: str) -> Said:
    """What model.json of a folder says. InputError where it is missing, damaged or of a later format."""
    from pydantic import TypeAdapter, ValidationError

    path = folder / DESCRIPTION
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except OSError:
        raise InputError(f"{folder} has no {DESCRIPTION} that can be read: it holds no {what}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{path}: {where}: {first['msg']}; train the model again with this version") from error


def check_file(path: Path, digest: str) -> None:
    """Raise InputError unless a file is the one with this SHA-256, as model.json says."""
    if file_digest(path) != digest:
        raise InputError(f"{path} is not the file that {DESCRIPTION} was written with; copy the whole folder again")


def file_digest(path: Path) -> str:
    """SHA-256 of a model's file. InputError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); copy the whole model folder") from error


def begun(kind: type[Said], path: Path, asked: dict[str, Any]) -> Said | None:
    """The course of a training that was begun in a folder, whose `asked` is what it answers to; None where none was.

    Raises:
        InputError: the folder holds a training with other settings or of other data, or the file is damaged.
    """
    from pydantic import TypeAdapter, ValidationError

    if not path.exists():
        return None
    try:
        course: Any = TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path} is damaged or of another version; give another folder") from error
    if course.asked != asked:
        raise InputError(f"{path.parent} holds a training with other settings or of other data; give another folder")
    return course
