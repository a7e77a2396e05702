"""A 200-slice CT from DICOM files: careloop beside bare pydicom, MONAI and SimpleITK, by time and peak memory.

    python benchmarks/dicom_reading.py                                  # careloop and bare pydicom
    python benchmarks/dicom_reading.py --peer VENV/bin/python           # and MONAI and SimpleITK of that environment
    python benchmarks/dicom_reading.py --slices 40 --rounds 2           # a quick try

The series is generated: the CT of pydicom's test data enlarged to 512 x 512, with simulated noise (sd 12 HU) that is
new in each slice. It is written without compression, as JPEG-LS and RLE (by pydicom's encoders) and JPEG 2000 (by
openjpeg), all lossless. What is timed, after imports and with files in the cache: careloop finds the series, checks
its geometry and reads it into a volume in Hounsfield units; bare pydicom does `dcmread(file).pixel_array` for each file
and nothing else, by the first of its plugins that is installed; MONAI does `LoadImage()(folder)` with its default
reader and with pydicom's; SimpleITK finds the series and reads it. Every measurement is a process of its own; each
round runs all of them, the ratios are the medians of the rounds' own ratios of careloop's time to the peer's (elapsed,
and of the processor), and peak memory is the peak resident set of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

NOISE_HU = 12
SYNTAXES = {
    "uncompressed": "1.2.840.10008.1.2.1",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "RLE": "1.2.840.10008.1.2.5",
}
OURS = {"careloop": "careloop", "bare pydicom": "pydicom"}
PEERS = {"MONAI LoadImage": "monai", "MONAI PydicomReader": "monai_pydicom", "SimpleITK": "simpleitk"}


def careloop(folder: Path) -> Callable[[], object]:
    """Find, check, read."""
    import pydicom.pixels  # noqa: F401

    from careloop.imaging.read.series import find_series, read_series

    return lambda: read_series(find_series(folder)[0]).voxels


def pydicom(folder: Path) -> Callable[[], object]:
    """Pixels of each file, kept."""
    import pydicom.pixels

    return lambda: [pydicom.dcmread(file).pixel_array for file in sorted(folder.iterdir())]


def monai(folder: Path) -> Callable[[], object]:
    """MONAI with its default choice of reader."""
    from monai.transforms import LoadImage

    load = LoadImage(image_only=True)
    return lambda: load(folder)


def monai_pydicom(folder: Path) -> Callable[[], object]:
    """MONAI with pydicom as its reader."""
    from monai.transforms import LoadImage

    load = LoadImage(reader="PydicomReader", image_only=True)
    return lambda: load(folder)


def simpleitk(folder: Path) -> Callable[[], object]:
    """SimpleITK's series reader."""
    import SimpleITK as sitk  # noqa: N813

    def read() -> object:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        return sitk.GetArrayFromImage(reader.Execute())

    return read


def measure(who: str, folder: Path) -> None:
    """Print elapsed seconds, seconds of the processor and peak memory (MiB) of one reading as JSON."""
    read = globals()[who](folder)
    start, cpu_start = time.perf_counter(), time.process_time()
    read()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"s": seconds, "cpu s": cpu, "peak": peak}))


def generate(folder: Path, slices: int) -> None:
    """Write the series once for each transfer syntax."""
    import numpy as np
    import pydicom
    from openjpeg.utils import encode_array
    from pydicom.data import get_testdata_file
    from pydicom.encaps import encapsulate
    from pydicom.uid import generate_uid
    from scipy.ndimage import zoom

    source = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    large = zoom(source.pixel_array.astype(np.float32), 4, order=1)
    random = np.random.default_rng(0)
    for name in SYNTAXES:
        (folder / name).mkdir()
    for number in range(slices):
        pixels = np.rint(large + random.normal(0, NOISE_HU, large.shape)).astype(np.int16)
        for name, uid in SYNTAXES.items():
            file = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
            file.Rows, file.Columns = pixels.shape
            file.PixelSpacing = [float(x) / 4 for x in file.PixelSpacing]
            file.InstanceNumber = number + 1
            file.ImagePositionPatient = ["-158.1", "-179.0", f"{-75.7 + number:.1f}"]
            file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            file.PixelData = pixels.tobytes()
            if name == "JPEG 2000":
                file.PixelData = encapsulate([encode_array(pixels, photometric_interpretation=2, use_mct=False)])
                file["PixelData"].is_undefined_length = True
                file.file_meta.TransferSyntaxUID = uid
            elif name != "uncompressed":
                file.compress(uid, generate_instance_uid=False)
            file.save_as(folder / name / f"{number:04}.dcm")


def run(python: str, who: str, folder: Path) -> dict[str, float] | None:
    """One measurement in a process of its own; None where the reader fails."""
    done = subprocess.run(
        [python, __file__, "--measure", who, str(folder)], capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def compare(folder: Path, rounds: int, peer: str | None) -> None:
    """Print one table row a reader and transfer syntax."""
    readers = [(name, who, sys.executable) for name, who in OURS.items()]
    readers += [(name, who, peer) for name, who in PEERS.items() if peer]
    print(f"{'transfer syntax':16} {'reader':20}     s  cpu s  careloop's s / its  cpu s / its  peak MiB")
    for syntax in SYNTAXES:
        runs = [{name: run(python, who, folder / syntax) for name, who, python in readers} for _ in range(rounds)]
        for name, _, _ in readers:
            pairs = [(r["careloop"], r[name]) for r in runs if r["careloop"] and r[name]]
            if not pairs:
                print(f"{syntax:16} {name:20} cannot read it")
                continue
            seconds, cpu, peak = (statistics.median(its[key] for _, its in pairs) for key in ("s", "cpu s", "peak"))
            ratio, cpu_ratio = (statistics.median(ours[k] / its[k] for ours, its in pairs) for k in ("s", "cpu s"))
            row = f"{syntax:16} {name:20} {seconds:5.2f} {cpu:6.2f} {ratio:19.2f} {cpu_ratio:12.2f} {peak:9.0f}"
            print(row, flush=True)


def main() -> None:
    """Generate the series and compare the readers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help="python of an environment with monai, itk, pydicom and SimpleITK")
    parser.add_argument("--folder", type=Path, help="keep the series here, and use those that are there already")
    parser.add_argument("--measure", nargs=2, metavar=("READER", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        if not (folder / "RLE").exists():
            folder.mkdir(exist_ok=True)
            generate(folder, arguments.slices)
        compare(folder, arguments.rounds, arguments.peer)


if __name__ == "__main__":
    main()
