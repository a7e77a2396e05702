"""Packages on disk: package.json, model files and README.md, written atomically and opened without unpickling."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from careloop import InputError, __version__
from careloop.features import Recipe
from careloop.features.timelines import TimelineRecipe
from careloop.models import ESTIMATORS
from careloop.train.calibration import calibration_document, calibration_from
from careloop.train.card import model_card
from careloop.train.conformal import conformal_document, conformal_from
from careloop.train.definition import ModelSection
from careloop.train.package import Package, TrainingFacts, TuningScores, content_version
from careloop.train.preprocess import Preprocessing, TrainingPopulation

# Format 2 has other calibrations than the logistic and rules for label sets; format 1, without them, stays readable.
FORMAT_VERSION = 2
# Settings that format 1 did not have: written where they are not the default, so that a package of that format which is
# saved again keeps its content and version.
NEWER_SETTINGS = ("calibration", "start", "beside")
# skops trusts most of scikit-learn, numpy and scipy by itself; these hold the other fitted parts of common estimators.
TRUSTED_PREFIXES = (
    "sklearn.tree._tree.",
    "sklearn.ensemble._hist_gradient_boosting.",
    "sklearn.gaussian_process.",
    "sklearn.metrics._dist_metrics.",
    "sklearn.neighbors._",
    "sklearn.neural_network._stochastic_optimizers.",
    "sksurv.",
)
STEMS = ("model", "competing")


def encode_estimators(kind: str, estimators: tuple[Any, ...]) -> dict[str, bytes]:
    """File name -> bytes of the fitted estimators: trees as LightGBM text, arrays as safetensors, the rest by skops."""
    files: dict[str, bytes] = {}
    for stem, estimator in zip(STEMS, estimators, strict=False):
        if kind not in ESTIMATORS:
            files[f"{stem}.skops"] = encode_skops(estimator, kind)
            continue
        state, arrays = linear_state(estimator) if kind == "logistic_regression" else estimator.get_state()
        if "booster" in state:
            files[f"{stem}.txt"] = state.pop("booster").encode()
        if arrays:
            files[f"{stem}.safetensors"] = encode_arrays(arrays)
        files[f"{stem}.json"] = json.dumps(state, sort_keys=True, indent=1).encode()
    return files


def decode_estimators(kind: str, files: Mapping[str, bytes]) -> tuple[Any, ...]:
    """The estimators that `encode_estimators` wrote."""
    return tuple(
        decode_skops(files[f"{stem}.skops"]) if f"{stem}.skops" in files else decode_state(kind, stem, files)
        for stem in STEMS
        if f"{stem}.skops" in files or f"{stem}.json" in files
    )


def decode_state(kind: str, stem: str, files: Mapping[str, bytes]) -> Any:
    """One of careloop's own estimators; only these are ever named in a package."""
    if kind not in ESTIMATORS:
        raise InputError(f"a package cannot hold a model of kind {kind!r} in {stem}.json; train it again")
    maker: Any = ESTIMATORS[kind]
    state = json.loads(files[f"{stem}.json"])
    if f"{stem}.txt" in files:
        state["booster"] = files[f"{stem}.txt"].decode()
    arrays = decode_arrays(files[f"{stem}.safetensors"]) if f"{stem}.safetensors" in files else {}
    return linear_from_state(state, arrays) if kind == "logistic_regression" else maker.from_state(state, arrays)


def linear_state(estimator: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A fitted logistic regression as parameters and arrays, because importing skops takes seconds."""
    arrays = {"coef": estimator.coef_, "intercept": estimator.intercept_, "classes": estimator.classes_}
    return {"parameters": estimator.get_params()}, arrays


def linear_from_state(state: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    """The logistic regression that `linear_state` described."""
    model = ESTIMATORS["logistic_regression"](**state["parameters"])
    model.coef_, model.intercept_, model.classes_ = arrays["coef"], arrays["intercept"], arrays["classes"]
    model.n_features_in_ = model.coef_.shape[1]
    return model


def encode_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as safetensors."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(value) for name, value in arrays.items()})


def decode_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Arrays from safetensors."""
    from safetensors.numpy import load

    return load(content)


def encode_skops(estimator: Any, kind: str) -> bytes:
    """A scikit-learn estimator by skops, without memory addresses and dates: equal models give equal bytes."""
    import skops.io

    content = skops.io.dumps(estimator)
    foreign = untrusted_types(content)
    if foreign:
        raise InputError(
            f"model {kind} cannot be saved safely: it holds {foreign[0]}, which is neither scikit-learn's nor "
            "scikit-survival's; choose another estimator"
        )
    return canonical_skops(content)


def decode_skops(content: bytes) -> Any:
    """The estimator, if it holds nothing but types of scikit-learn, numpy, scipy and scikit-survival."""
    import skops.io

    foreign = untrusted_types(content)
    if foreign:
        raise InputError(
            f"the package's model file holds the untrusted type {foreign[0]}; open no packages of unknown origin"
        )
    return skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))


def untrusted_types(content: bytes) -> list[str]:
    """Types in a skops file that are neither trusted by skops nor in `TRUSTED_PREFIXES`."""
    import skops.io

    found = skops.io.get_untrusted_types(data=content)
    return sorted(name for name in found if not name.startswith(TRUSTED_PREFIXES))


def canonical_skops(content: bytes) -> bytes:
    """The same skops archive with objects numbered in order of appearance, not by memory address, and no dates."""
    numbers: dict[int, int] = {}
    renamed: dict[str, str] = {}

    def renumber(node: Any) -> Any:
        if isinstance(node, list):
            return [renumber(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {key: renumber(value) for key, value in node.items()}
        if isinstance(node.get("__id__"), int):
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
        if isinstance(node.get("file"), str) and node["file"] in names:
            suffix = Path(node["file"]).suffix
            node["file"] = renamed.setdefault(node["file"], f"{len(renamed) + 1}{suffix}")
        return node

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = set(archive.namelist())
        schema = renumber(json.loads(archive.read("schema.json")))
        parts = {renamed.get(name, name): archive.read(name) for name in names - {"schema.json"}}
    parts["schema.json"] = json.dumps(schema, indent=1).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(parts):
            archive.writestr(zipfile.ZipInfo(name), parts[name], zipfile.ZIP_DEFLATED)
    return target.getvalue()


def to_document(package: Package) -> dict[str, Any]:
    """Everything of the package but its version and model files, as plain JSON values; NaN is null."""
    newer = {"conformal": conformal_document(package.conformal)} if package.conformal else {}
    if package.timelines is not None:
        newer["timelines"] = json.loads(package.timelines.to_json())
    return {
        "section": settings(package.section),
        "facts": asdict(package.facts),
        "recipe": json.loads(package.recipe.to_json()),
        "preprocessing": plain(package.preprocessing),
        "population": plain(package.population),
        "recalibration": calibration_document(package.recalibration),
        "tuning": plain(package.tuning),
        "threshold": package.threshold,
        **newer,
    }


def settings(section: ModelSection) -> dict[str, Any]:
    """The section as JSON values, without `NEWER_SETTINGS` that have their default."""
    defaults = {name: ModelSection.model_fields[name].default for name in NEWER_SETTINGS}
    found = section.model_dump(mode="json")
    return {name: value for name, value in found.items() if name not in defaults or value != defaults[name]}


def plain(value: Any) -> dict[str, Any]:
    """A dataclass of arrays as JSON values."""
    return {f.name: plain_field(getattr(value, f.name)) for f in fields(value)}


def plain_field(value: Any) -> Any:
    """An array as a list with null for NaN; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return list(value) if isinstance(value, tuple) else value
    if value.dtype.kind != "f":
        return value.tolist()
    return [None if np.isnan(number) else number for number in value.tolist()]


def arrays_of(document: dict[str, Any], *names: str) -> dict[str, np.ndarray]:
    """The named float arrays of a document, NaN for null."""
    return {name: np.array(document[name], dtype=np.float64) for name in names}


def from_document(document: dict[str, Any], files: Mapping[str, bytes], version: str) -> Package:
    """The package that `to_document` described, with its estimators read from `files`."""
    pre, pop = document["preprocessing"], document["population"]
    section, facts = ModelSection(**document["section"]), document["facts"]
    preprocessing = Preprocessing(
        scheme=pre["scheme"],
        names=tuple(pre["names"]),
        logged=np.array(pre["logged"], dtype=bool),
        indicators=tuple(pre["indicators"]),
        **arrays_of(pre, "median", "mean", "scale", "missing_share"),
    )
    return Package(
        section=section,
        facts=TrainingFacts(**facts | {"notes": tuple(facts["notes"])}),
        recipe=Recipe.from_json(json.dumps(document["recipe"])),
        preprocessing=preprocessing,
        population=TrainingPopulation(**pop | arrays_of(pop, "low", "high", "mean", "scale")),
        estimators=decode_estimators(section.kind, files),
        recalibration=calibration_from(document["recalibration"]),
        tuning=TuningScores(**arrays_of(document["tuning"], "risk", "label", "weight")),
        threshold=document["threshold"],
        version=version,
        files=files,
        conformal=conformal_from(document["conformal"]) if "conformal" in document else None,
        timelines=TimelineRecipe.from_json(json.dumps(document["timelines"])) if "timelines" in document else None,
    )


def save_package(package: Package, path: Path, *, figures: str = "") -> None:
    """Write the folder beside its place and rename it there; a package that stood there is replaced."""
    path = Path(path)
    document = {
        "format_version": FORMAT_VERSION,
        "careloop_version": __version__,
        "version": package.version,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(package.files.items())},
        "package": to_document(package),
    }
    contents = dict(package.files)
    contents["package.json"] = json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()
    contents["README.md"] = model_card(package, figures=figures).encode()
    unfinished = path.with_name(f".{path.name}.unfinished-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name, content in contents.items():
        with (unfinished / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    if path.exists():
        replaced = path.with_name(f".{path.name}.replaced-{os.getpid()}")
        path.rename(replaced)
        unfinished.rename(path)
        shutil.rmtree(replaced)
    else:
        unfinished.rename(path)


def open_package(path: Path) -> Package:
    """Open a package folder. InputError if it is none, was written by a newer careloop, or is damaged."""
    path = Path(path)
    document = read_document(path)
    files = {name: read_checked(path / name, digest) for name, digest in document["files"].items()}
    try:
        if content_version(document["package"], files) != document["version"]:
            raise InputError(f"{path / 'package.json'} was changed after it was written; train the model again")
        return from_document(document["package"], files, document["version"])
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes a reader raise, the remedy is the same
        raise InputError(f"{path} is no readable model package ({type(error).__name__}); train it again") from error


def read_document(path: Path) -> dict[str, Any]:
    """package.json with its format checked."""
    file = path / "package.json"
    if not file.is_file():
        raise InputError(
            f"{path} has no package.json, so it is no model package; give one's folder, such as RUN/models/NAME"
        )
    try:
        document = json.loads(file.read_bytes())
        found = int(document["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged (not a package's JSON); copy the package again") from error
    if found > FORMAT_VERSION:
        writer = document.get("careloop_version", "a newer version")
        raise InputError(
            f"{file} has format {found}, written by careloop {writer}; careloop {__version__} reads up to "
            f"format {FORMAT_VERSION}: upgrade careloop"
        )
    files = document.get("files")
    named_plainly = isinstance(files, dict) and all(Path(name).name == name for name in files)
    if not named_plainly or not {"package", "version"} <= document.keys():
        raise InputError(f"{file} is damaged (entries are missing or wrong); copy the package again")
    return document


def read_checked(file: Path, digest: str) -> bytes:
    """A model file whose content is the one that package.json names."""
    if not file.is_file():
        raise InputError(f"{file} is missing from the package; copy the package again")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{file} is truncated or damaged (not what was saved); copy the package again")
    return content
