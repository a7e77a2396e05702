"""Broken image series read by careloop, SimpleITK, MONAI and dcm2niix: what each makes of them, judged by numbers.

    python benchmarks/broken_series.py --monai-python /path/to/env/bin/python
    python benchmarks/broken_series.py --slices 24 --thinned 2 --tools careloop dcm2niix

The series are those of `tests/imaging/broken_series.py`, made from the head CT of Debian's invesalius-examples, each
with a known right answer. The environment of `--monai-python` has monai, itk, SimpleITK, pydicom, nibabel, pylibjpeg
and pylibjpeg-openjpeg; `dcm2niix` is Debian's. SimpleITK reads with ImageSeriesReader the files that GDCM lists for
each series; MONAI with LoadImage on the folder, once as it chooses its reader and once with PydicomReader.

Each slice that comes out is looked for among the true slices by its content; the voxels at its corners then lie where
the true ones are or so many millimetres away, and values are right or wrong by so much. What was resampled, so that no
slice is a true one, is judged by its values at the places of the true voxels. `silently` means that neither an
exception nor a warning was given; a warning that a series without a fault causes too does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

TOOLS = ("careloop", "SimpleITK", "MONAI", "MONAI PydicomReader", "dcm2niix")
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
RIGHT_MM = 0.05  # an error that no use of an image notices
RIGHT_VALUE = 1e-3  # of the range of the true values: rounding to what a file can hold
SAME_SLICE = 0.999  # correlation of a slice with the true one
WRAPPED_BITS = (13, 16)  # of negative values that may have been read as unsigned
LOOK_AT = 2_000  # voxels of a slice that are compared to find it
ABOUT_CODE = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning, ImportWarning)
Match = tuple[int, int] | None  # (truth, slice)
Volumes = list[tuple[np.ndarray, np.ndarray]]  # array, affine from its indices to mm in LPS


# What the peers' interpreters run: only NumPy and the peer are imported here.


def read_simpleitk(folder: Path) -> Volumes:
    """Every series of the folder with ImageSeriesReader, files named and ordered by GDCM."""
    import SimpleITK

    volumes = []
    for series in SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series))
        image = reader.Execute()
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        volumes.append((SimpleITK.GetArrayFromImage(image), affine[:, [2, 1, 0, 3]]))
    return volumes


def read_monai(folder: Path, **reader: str) -> Volumes:
    """The folder with LoadImage as it is."""
    from monai.transforms import LoadImage

    image = LoadImage(image_only=True, **reader)(str(folder))
    array = image.array
    return [(array.reshape(*array.shape, *[1] * (3 - array.ndim)), LPS_FROM_RAS @ np.asarray(image.affine))]


def read_monai_pydicom(folder: Path) -> Volumes:
    """The folder with LoadImage and its reader on top of pydicom."""
    return read_monai(folder, reader="PydicomReader")


def read_careloop(folder: Path) -> Volumes:
    """The folder with careloop's reader, which goes through the gate."""
    return [(volume.voxels, volume.affine) for volume in careloop_volumes(folder)]


def careloop_volumes(folder: Path) -> list[Any]:
    """Every volume of every series in the folder."""
    from careloop.imaging.read.series import find_series, read_series, stacks_of

    return [
        read_series(found, stack=number)
        for found in find_series(folder)
        for number in range(1, len(stacks_of(found)) + 1)
    ]


READERS: dict[str, Callable[[Path], Volumes]] = {
    "SimpleITK": read_simpleitk,
    "MONAI": read_monai,
    "MONAI PydicomReader": read_monai_pydicom,
    "careloop": read_careloop,
}


def read_folders(tool: str, folders: Sequence[Path], out: Path) -> None:
    """Read each folder and leave its volumes, or its error, and all that was warned of, in `out`."""
    for folder in folders:
        log = out / f"{folder.name}.log"
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        try:
            with warnings.catch_warnings(record=True) as given:
                warnings.simplefilter("always")
                volumes = READERS[tool](folder)
            told = [w.message for w in given if not issubclass(w.category, ABOUT_CODE)]
            print("\n".join(f"warning: {message}" for message in told), file=sys.stderr)
            arrays = {f"v{k}": array for k, (array, _) in enumerate(volumes)}
            np.savez(out / f"{folder.name}.npz", **arrays, **{f"a{k}": affine for k, (_, affine) in enumerate(volumes)})
        except Exception as error:
            print(traceback.format_exc(), file=sys.stderr)
            (out / f"{folder.name}.error").write_text(json.dumps([type(error).__name__, str(error)]))
        sys.stdout.flush()
        sys.stderr.flush()
        os.close(descriptor)


# What runs the tools.


@dataclass(frozen=True)
class Outcome:
    """What a tool left of one series: volumes by name or the error, and what it warned of (words without numbers)."""

    volumes: dict[str, tuple[np.ndarray, np.ndarray]]
    error: str = ""
    warned: frozenset[str] = frozenset()


def outcomes(tool: str, folders: Sequence[Path], python: str) -> dict[str, Outcome]:
    """What a tool makes of every folder; a process that dies takes only its folder with it."""
    if tool == "dcm2niix":
        return {folder.name: run_dcm2niix(folder) for folder in folders}
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        out, left = Path(scratch), list(folders)
        while left:
            interpreter = sys.executable if tool == "careloop" else python
            command = [interpreter, __file__, "--read", tool, str(out), *map(str, left)]
            code = subprocess.run(command, check=False).returncode
            done = [f for f in left if (out / f"{f.name}.npz").exists() or (out / f"{f.name}.error").exists()]
            found |= {folder.name: collected(out, folder.name) for folder in done}
            left = [folder for folder in left if folder not in done]
            if left:
                found[left[0].name] = Outcome({}, f"crashes (exit status {code})")
                left = left[1:]
    return found


def collected(out: Path, name: str) -> Outcome:
    """What `read_folders` left of one folder."""
    log = (out / f"{name}.log").read_text(errors="replace")
    error = out / f"{name}.error"
    if error.exists():
        kind, message = json.loads(error.read_text())
        return Outcome({}, f"{kind}: {message}")
    with np.load(out / f"{name}.npz") as arrays:
        volumes = {str(k): (arrays[f"v{k}"], arrays[f"a{k}"]) for k in range(len(arrays) // 2)}
    return Outcome(volumes, warned=warnings_in(log))


def run_dcm2niix(folder: Path) -> Outcome:
    """The NIfTI files that dcm2niix makes of a folder with its defaults, each time point a volume."""
    import nibabel

    with tempfile.TemporaryDirectory() as out:
        command = ["dcm2niix", "-b", "n", "-z", "n", "-f", "out", "-o", out, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        volumes = {}
        for path in sorted(Path(out).glob("*.nii")):
            image = nibabel.load(path)
            array, affine = np.asarray(image.dataobj), LPS_FROM_RAS @ image.affine
            name = path.stem.removeprefix("out")
            times = np.moveaxis(array, 3, 0) if array.ndim == 4 else [array]
            volumes |= {name + " " * k: (volume, affine) for k, volume in enumerate(times)}
        said = done.stdout + "\n" + done.stderr
        error = "" if volumes else f"exit status {done.returncode}: {(said.strip().splitlines() or [''])[-1]}"
        return Outcome(volumes, error, warnings_in(said))


def warnings_in(log: str) -> frozenset[str]:
    """Lines of a log that warn (of the image, not of code), without numbers, places in memory and paths."""
    warning = re.compile(r"(?<!Deprecation)warning|error", re.IGNORECASE)
    lines = (line for line in log.splitlines() if warning.search(line))
    return frozenset(re.sub(r"\S*[\d/]\S*", "", line).strip() for line in lines)


# The judge.


@dataclass(frozen=True)
class Judged:
    """One volume against the truths: which true slices it holds, how far off in mm and in values.

    `slices` are (truth, slice) in the volume's order, None for a slice that is none of them.
    """

    slices: list[Match]
    off_mm: float
    off_value: float
    part_wrong: float


def judge(array: np.ndarray, affine: np.ndarray, truths: Sequence[Any]) -> Judged | None:
    """Find the volume's slices among the true ones by content; None where they are none of them."""
    best = max(arrangements(array, affine, truths), key=lambda a: a[0], default=None)
    if best is None or best[0] < SAME_SLICE:
        return None
    _, turned, turned_affine = best
    # One volume first: slices of air may be the same in several, and are then no mixture.
    ways = [*([matched(plane, truths, only=k) for plane in turned] for k in range(len(truths)))]
    ways.append([matched(plane, truths) for plane in turned])
    found, errors = min(((way, value_errors(turned, way, truths)) for way in ways), key=lambda way: misfit(*way))
    wrong = np.abs(errors) > RIGHT_VALUE * np.ptp(truths[0].voxels)
    mean = float(np.abs(errors[wrong]).mean()) if wrong.any() else 0.0
    off_mm = distance_mm(turned.shape[1:], turned_affine, found, truths) if truths[0].placed else 0.0
    return Judged(found, off_mm, mean, float(wrong.mean()))


def value_errors(turned: np.ndarray, found: Sequence[Match], truths: Sequence[Any]) -> np.ndarray:
    """Value less true value of the slices that were found; a picture's up to one number for all."""
    pairs = [(plane, truths[match[0]].voxels[match[1]]) for plane, match in zip(turned, found, strict=True) if match]
    errors = np.array([plane.astype(np.float32) - true for plane, true in pairs])
    return errors if truths[0].placed else errors - np.median(errors)


def misfit(found: Sequence[Match], errors: np.ndarray) -> tuple[int, float]:
    """Slices not found, then how far values are off: what makes one way to name the slices worse than another."""
    return sum(match is None for match in found), round(float(np.abs(errors).mean()) if errors.size else 0.0, 3)


def distance_mm(shape: tuple[int, ...], affine: np.ndarray, found: Sequence[Match], truths: Sequence[Any]) -> float:
    """The most that a corner of a slice lies away from where it truly is."""
    corners = np.array([[r, c, 1.0] for r, c in product((0, shape[0] - 1), (0, shape[1] - 1))])
    most = 0.0
    for index, match in enumerate(found):
        if match is not None:
            here = np.insert(corners, 0, index, axis=1) @ affine.T
            there = np.insert(corners, 0, match[1], axis=1) @ truths[match[0]].affine.T
            most = max(most, float(np.linalg.norm((here - there)[:, :3], axis=1).max()))
    return most


def arrangements(array: np.ndarray, affine: np.ndarray, truths: Sequence[Any]) -> Iterator[tuple[float, Any, Any]]:
    """The array with its axes as (slice, row, column) in every way of the right shape, and how alike its slices are.

    Slices may be stored along any axis and flipped: what counts is where the affine puts them.
    """
    if array.ndim != 3:
        return
    shape = truths[0].voxels.shape[1:]
    for axes in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        turned = array.transpose(axes)
        if turned.shape[1:] != shape:
            continue
        order = affine[:, [*axes, 3]]
        for flips in product((1, -1), (1, -1)):
            flipped, placed = turned[:, :: flips[0], :: flips[1]], order.copy()
            for axis, flip in zip((1, 2), flips, strict=True):
                if flip < 0:
                    placed[:, 3] += placed[:, axis] * (turned.shape[axis] - 1)
                    placed[:, axis] *= -1
            yield likeness(flipped[len(flipped) // 2], truths)[0], flipped, placed


def matched(plane: np.ndarray, truths: Sequence[Any], *, only: int | None = None) -> Match:
    """The (truth, slice) that a slice is, if it is one; of all truths or of one only."""
    alike, truth, index = likeness(plane, truths if only is None else [truths[only]])
    return (truth if only is None else only, index) if alike >= SAME_SLICE else None


def likeness(plane: np.ndarray, truths: Sequence[Any]) -> tuple[float, int, int]:
    """Highest correlation with a true slice, of either sign, and with unsigned numbers read as signed ones."""
    step = max(1, plane.size // LOOK_AT)
    best = (0.0, 0, 0)
    plain = plane.reshape(-1)[::step].astype(np.float64)
    wrapped = [np.mod(plain + 2 ** (bits - 1), 2**bits) - 2 ** (bits - 1) for bits in WRAPPED_BITS]
    for number, truth in enumerate(truths):
        true = truth.voxels.reshape(len(truth.voxels), -1)[:, ::step].astype(np.float64)
        exact = np.abs(true - plain).mean(axis=1)
        for values in (plain, *wrapped):
            centred, others = values - values.mean(), true - true.mean(axis=1, keepdims=True)
            norms = np.linalg.norm(others, axis=1) * np.linalg.norm(centred)
            alike = np.abs(others @ centred) / np.where(norms > 0, norms, np.inf)
            # The nearest in value decides between slices that are alike.
            index = int(np.lexsort((exact, -alike.round(6)))[0])
            best = max(best, (float(alike[index]), number, index))
    return best


def off_by_values(array: np.ndarray, affine: np.ndarray, truths: Sequence[Any]) -> float:
    """Mean error of a resampled volume's values, by linear interpolation at the true voxels that it covers."""
    from scipy.ndimage import map_coordinates

    errors = []
    for truth in truths:
        index = np.stack(np.meshgrid(*(np.arange(n) for n in truth.voxels.shape), indexing="ij"), axis=-1)[:, ::3, ::3]
        places = index.reshape(-1, 3) @ truth.affine[:3, :3].T + truth.affine[:3, 3]
        there = (places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        inside = ((there >= 0) & (there <= np.array(array.shape) - 1)).all(axis=1)
        values = map_coordinates(array.astype(np.float32), there[inside].T, order=1)
        errors.append(float(np.abs(values - truth.voxels[:, ::3, ::3].reshape(-1)[inside]).mean()))
    return min(errors)


def verdict(outcome: Outcome, case: Any, truths: Sequence[Any], usual: frozenset[str]) -> str:
    """One cell of the table: what came out, against what is true; `usual` is warned of without any fault too."""
    if outcome.error:
        return outcome.error if outcome.error.startswith("crashes") else f"refuses: {brief(outcome.error)}"
    warned = outcome.warned - usual
    manner = "with a warning" if warned else "silently"
    described = [describe(volume, truths) for volume in outcome.volumes.values()]
    held = {match[0] for _, judged in described if judged is not None for match in judged.slices if match}
    if all(text == "right" for text, _ in described) and len(described) == len(truths) == len(held):
        if case.model is not None:
            return f"reads it {manner}: no check of what it is"
        return f"right ({manner})" if warned else "right"
    texts = []
    for name, (text, _) in zip(outcome.volumes, described, strict=True):
        made = name.strip("0123456789_ ")  # dcm2niix names what it resampled: Eq, Tilt
        texts.append(f"{made}: {text}" if made else text)
    return f"{'; '.join(dict.fromkeys(texts))} ({manner})"


def describe(volume: tuple[np.ndarray, np.ndarray], truths: Sequence[Any]) -> tuple[str, Judged | None]:
    """What is wrong with one volume, in numbers; `right` where nothing is."""
    judged = judge(*volume, truths)
    if judged is None:
        if volume[0].ndim == 3 and min(volume[0].shape) > 1:
            return f"resampled, values wrong by {off_by_values(*volume, truths):.0f} on average", None
        return f"another image of {' x '.join(map(str, volume[0].shape))}", None
    faults = []
    matches = [match for match in judged.slices if match]
    if judged.off_mm > RIGHT_MM:
        faults.append(f"geometry wrong by up to {judged.off_mm:.1f} mm")
    if judged.part_wrong:
        faults.append(f"{100 * judged.part_wrong:.0f} % of values wrong, by {judged.off_value:.4g} on average")
    if len({truth for truth, _ in matches}) > 1:
        faults.append(f"{len({truth for truth, _ in matches})} volumes mixed into one")
    elif len(set(matches)) < len(matches):
        faults.append(f"{len(matches) - len(set(matches))} slices twice")
    if len(matches) < len(judged.slices):
        faults.append(f"{len(judged.slices) - len(matches)} slices are none of the true ones")
    absent = len(truths[matches[0][0]].voxels) - len(set(matches)) if matches else 0
    if absent > 0 and not faults:
        faults.append(f"{absent} slices absent")
    return ", ".join(faults) or "right", judged


def brief(error: str) -> str:
    """The first line of an error, without paths, at most 110 characters."""
    line = next((line for line in error.splitlines() if line.strip()), "").replace("|", "/")
    line = line.rpartition("cannot be used: ")[2]  # careloop's reason
    words = " ".join(word for word in line.split() if not word.startswith("/"))
    return words if len(words) <= 110 else words[:107] + "..."


def careloop_verdict(outcome: Outcome, case: Any, truths: Sequence[Any], folder: Path) -> str:
    """As `verdict`, and for the cases of a wrong model what the gate says of it."""
    if case.model is None or outcome.error:
        return verdict(outcome, case, truths, frozenset())
    from careloop.imaging.finding import RefusedSeriesError
    from careloop.imaging.gate import check_expected

    modality, body_part = case.model
    try:
        check_expected(careloop_volumes(folder), modalities=(modality,), body_parts=(body_part,), channels=(modality,))
    except RefusedSeriesError as error:
        return f"refuses: {brief(str(error))}"
    return "accepts it"


def main() -> None:
    """Write every case, read it with every tool and print the table."""
    arguments = parsed()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "imaging"))
    import broken_series as simulated

    head = simulated.head_ct(slices=arguments.slices, thinned=arguments.thinned)
    real = "invesalius-examples head CT" if simulated.HEAD_CT.exists() else "pieces of pydicom's CT slice"
    print(f"{real}, {' x '.join(map(str, head.voxels.shape))} voxels\n")
    cases = simulated.cases(head)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / f"case_{k:02d}" for k in range(len(cases))]
        truths = [case.write(folder) for case, folder in zip(cases, folders, strict=True)]
        print(f"| series | right answer | {' | '.join(arguments.tools)} |")
        print(f"| --- | --- |{' --- |' * len(arguments.tools)}")
        faultless = Path(scratch) / "faultless"
        simulated.plain_series(head, faultless)
        found = {tool: outcomes(tool, [faultless, *folders], arguments.monai_python) for tool in arguments.tools}
        for case, folder, true in zip(cases, folders, truths, strict=True):
            cells = [
                careloop_verdict(found[tool][folder.name], case, true, folder)
                if tool == "careloop"
                else verdict(found[tool][folder.name], case, true, found[tool][faultless.name].warned)
                for tool in arguments.tools
            ]
            print(f"| {case.name} | {case.right} | {' | '.join(cells)} |", flush=True)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--monai-python", default=sys.executable, help="interpreter with monai and SimpleITK")
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=TOOLS)
    parser.add_argument("--slices", type=int, default=108)
    parser.add_argument("--thinned", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read_folders(sys.argv[2], [Path(name) for name in sys.argv[4:]], Path(sys.argv[3]))
    else:
        main()
