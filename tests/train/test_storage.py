"""Packages on disk: the same predictions bit for bit, no pickle, and clear errors for what cannot be opened."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.train import ModelSection, Package, TrainingData, open_package, train_model
from careloop.train import storage as storage_module
from careloop.train.storage import canonical_skops

SECTIONS = {
    "logistic_regression": ModelSection(kind="logistic_regression"),
    "lightgbm": ModelSection(kind="lightgbm", parameters={"n_estimators": 20}),
    "fully_connected": ModelSection(kind="fully_connected", parameters={"hidden": [8], "max_epochs": 3}),
    "cox": ModelSection(kind="cox"),
    "boosted_hazard": ModelSection(kind="boosted_hazard", parameters={"max_rounds": 20}),
    "hazard_network": ModelSection(kind="hazard_network", parameters={"hidden": [8], "members": 2, "max_epochs": 2}),
    "forest": ModelSection(kind="sklearn.ensemble.RandomForestClassifier", parameters={"n_estimators": 5}),
    "survival_forest": ModelSection(kind="sksurv.ensemble.RandomSurvivalForest", parameters={"n_estimators": 3}),
}
EXPECTED_FILES = {
    "logistic_regression": {"model.json", "model.safetensors"},
    "lightgbm": {"model.json", "model.txt"},
    "fully_connected": {"model.json", "model.safetensors"},
    "cox": {"model.json", "model.safetensors", "competing.json", "competing.safetensors"},
    "forest": {"model.skops"},
}


@pytest.fixture(scope="module")
def trained(competing: TrainingData) -> Callable[[str], Package]:
    packages: dict[str, Package] = {}

    def get(name: str) -> Package:
        if name not in packages:
            packages[name] = train_model(SECTIONS[name], competing)
        return packages[name]

    return get


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_saved_package_predicts_the_same_bit_for_bit(
    name: str, trained: Callable[[str], Package], competing: TrainingData, tmp_path: Path
) -> None:
    package = trained(name)
    package.save(tmp_path / "model")
    opened = open_package(tmp_path / "model")
    assert opened.version == package.version
    np.testing.assert_array_equal(opened.risk(competing.matrix), package.risk(competing.matrix))
    days = np.array([30.0, 365.0])
    if package.survival(competing.matrix, days) is not None:
        np.testing.assert_array_equal(opened.survival(competing.matrix, days), package.survival(competing.matrix, days))
    opened.save(tmp_path / "again")
    assert digests(tmp_path / "again") == digests(tmp_path / "model")
    written = {p.name for p in (tmp_path / "model").iterdir()}
    assert {"package.json", "README.md"} <= written
    if name in EXPECTED_FILES:
        assert written - {"package.json", "README.md"} == EXPECTED_FILES[name]


@pytest.mark.parametrize("name", ["lightgbm", "fully_connected", "boosted_hazard", "forest", "survival_forest"])
def test_training_again_writes_the_same_bytes(
    name: str, trained: Callable[[str], Package], competing: TrainingData, tmp_path: Path
) -> None:
    trained(name).save(tmp_path / "one")
    train_model(SECTIONS[name], competing).save(tmp_path / "two")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_no_file_holds_a_pickle(trained: Callable[[str], Package]) -> None:
    import zipfile
    from io import BytesIO

    for name in SECTIONS:
        for file, content in trained(name).files.items():
            parts = [content]
            if file.endswith(".skops"):
                with zipfile.ZipFile(BytesIO(content)) as archive:
                    parts = [archive.read(part) for part in archive.namelist()]
            for part in parts:
                assert not part.startswith(b"\x80")  # the first byte of every pickle since protocol 2


def test_columns_are_matched_by_name(trained: Callable[[str], Package], competing: TrainingData) -> None:
    package, matrix = trained("lightgbm"), competing.matrix
    turned = matrix.select(list(reversed(matrix.names)))
    np.testing.assert_array_equal(package.risk(turned), package.risk(matrix))
    with pytest.raises(InputError, match=r"reads feature 'D\|365d\|last' \(1 absent\)"):
        package.risk(matrix.select(matrix.names[:3]))


def test_the_model_card_says_what_it_must(trained: Callable[[str], Package], tmp_path: Path) -> None:
    trained("cox").save(tmp_path / "cox", figures="| AUROC | 0.81 |")
    card = (tmp_path / "cox" / "README.md").read_text()
    expected = [
        "Not for clinical use",
        "Intended use",
        "death within 365 days",
        "Record version 3",
        "600 training rows",
    ]
    expected += ["| AUROC | 0.81 |", "abstained", "scikit-learn"]
    assert [text for text in expected if text not in card] == []


def test_saving_replaces_the_old_package_and_leaves_nothing_else(
    trained: Callable[[str], Package], tmp_path: Path
) -> None:
    trained("cox").save(tmp_path / "m")
    trained("lightgbm").save(tmp_path / "m")
    assert open_package(tmp_path / "m").name == "lightgbm"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_failed_save_leaves_the_old_package(
    trained: Callable[[str], Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("cox").save(tmp_path / "m")
    before = digests(tmp_path / "m")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(storage_module.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        trained("lightgbm").save(tmp_path / "m")
    assert digests(tmp_path / "m") == before


@pytest.fixture
def folder(trained: Callable[[str], Package], tmp_path: Path) -> Path:
    trained("cox").save(tmp_path / "cox")
    return tmp_path / "cox"


def edit(folder: Path, **entries: object) -> None:
    file = folder / "package.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def test_a_newer_format_says_to_upgrade(folder: Path) -> None:
    edit(folder, format_version=99, careloop_version="7.0")
    with pytest.raises(InputError, match=r"format 99, written by careloop 7\.0.*upgrade careloop"):
        open_package(folder)


def test_a_truncated_model_file_is_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"model\.safetensors is truncated or damaged"):
        open_package(folder)


def test_a_truncated_document_is_named(folder: Path) -> None:
    file = folder / "package.json"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match=r"package\.json is damaged"):
        open_package(folder)


def test_a_changed_document_is_noticed(folder: Path) -> None:
    document = json.loads((folder / "package.json").read_text())["package"]
    document["threshold"] = 0.01
    edit(folder, package=document)
    with pytest.raises(InputError, match="changed after it was written"):
        open_package(folder)


@pytest.mark.parametrize("files", [None, ["model.json"], {"../other/model.json": "0"}])
def test_a_list_of_files_that_is_none_or_leads_elsewhere_is_refused(files: object, folder: Path) -> None:
    edit(folder, files=files)
    with pytest.raises(InputError, match=r"package\.json is damaged"):
        open_package(folder)


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "competing.json").unlink()
    with pytest.raises(InputError, match=r"competing\.json is missing"):
        open_package(folder)
    with pytest.raises(InputError, match=r"no package\.json"):
        open_package(tmp_path)


def test_a_skops_file_with_a_foreign_type_is_refused(trained: Callable[[str], Package], tmp_path: Path) -> None:
    import skops.io

    package = trained("forest")
    package.save(tmp_path / "forest")
    hostile = canonical_skops(skops.io.dumps({"model": shutil.rmtree}))
    (tmp_path / "forest" / "model.skops").write_bytes(hostile)
    edit(tmp_path / "forest", files={"model.skops": hashlib.sha256(hostile).hexdigest()})
    from careloop.train.package import content_version

    document = json.loads((tmp_path / "forest" / "package.json").read_text())["package"]
    edit(tmp_path / "forest", version=content_version(document, {"model.skops": hostile}))
    with pytest.raises(InputError, match=r"untrusted type shutil\.rmtree"):
        open_package(tmp_path / "forest")


def test_an_estimator_that_skops_does_not_trust_is_refused_when_trained(competing: TrainingData) -> None:
    with pytest.raises(InputError, match="cannot be saved safely"):
        train_model(ModelSection(kind="lightgbm.LGBMClassifier", parameters={"verbose": -1}), competing)
