"""Restoration of held-out real CT and MR slices by careloop's shipped networks, beside the classical methods.

Held out means that no weight was trained on them (see restoration_slices.py, and scripts/restoration_planes.py for what
was). Noise and blur are simulated, each slice is its own truth with whatever noise it had. CT is taken from -1000 to
1000 HU, MR from 0 to its 99.5th percentile, and sigma is in 255ths of that. BM3D runs in an environment of its own, as
its licence is for non-commercial use:

    python -m venv PEER && PEER/bin/pip install bm3d
    python benchmarks/restoration.py --peer PEER/bin/python [--parts gaussian ...] [--slices N] [--more-mr FOLDER]

With --adapt, white noise is also taken out by a network adapted to each noisy slice (`image restore --adapt`).
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from restoration_slices import Plane, Slice, held_out
from scipy import stats

from careloop.evaluate.estimate import Estimate
from careloop.evaluate.lesion_fidelity import (
    ROSE,
    LesionFidelity,
    LesionSummary,
    ideal_misses,
    lesion_fidelity,
    lesion_summary,
)
from careloop.evaluate.restoration import psnr
from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.phantom.projections import Kernel
from careloop.imaging.read.units import HOUNSFIELD
from careloop.imaging.restore.adapt import adapted
from careloop.imaging.restore.apply import RestorationTask, restore
from careloop.imaging.restore.blur import blurred, gaussian_psf, richardson_lucy, wiener
from careloop.imaging.restore.classics import non_local_means, total_variation
from careloop.imaging.restore.lesions import LesionRule, insert_lesions
from careloop.imaging.restore.local_level import local_levels
from careloop.imaging.restore.low_dose import LOW_DOSE, low_dose, project
from careloop.imaging.restore.model import RestorationModel, read_restoration, shipped
from careloop.imaging.restore.noise_level import noise_sigma
from careloop.imaging.restore.plug_and_play import deblurred
from careloop.imaging.restore.run import PlaneRestorer
from careloop.imaging.restore.white_noise import NoisyPlane
from careloop.imaging.volume import Volume

SEED = 20261127
SIGMAS = (15, 25, 50)
BLURS_PX = (1.2, 2.0)
PHOTONS = (5e3, 2e4, 8e4)
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
OFFERED_LEVELS = tuple(np.geomspace(1, 240, 15) / 255)  # to methods that know no noise but white
LESIONS, LESIONS_A_SLICE = 500, 10
LESION_PX, LESION_CONTRAST = (8.0, 20.0), (0.1, 0.4)  # 0.1 is 200 HU of the window
DETECTABILITIES = ((0.0, ROSE), (ROSE, math.inf), (2 * ROSE, math.inf))  # d' in the noise
TISSUE = 0.2
UNITS = {"CT": HOUNSFIELD, "MR": ""}
WITHOUT_TARGETS = "careloop, no clean targets"


def bm3d(noisy: Sequence[Plane], sigmas: Sequence[float], python: Path) -> tuple[list[Plane], list[float]]:
    """BM3D of planes with the noise level known to it, and seconds of each."""
    code = (
        "import sys, time, numpy as np, bm3d\n"
        "z = np.load(sys.argv[1]); out = {}\n"
        "for k in range(len(z['sigmas'])):\n"
        "    t = time.perf_counter(); y = bm3d.bm3d(z[f'p{k}'].astype(float), float(z['sigmas'][k]))\n"
        "    out[f'p{k}'] = y.astype('f4'); out[f't{k}'] = time.perf_counter() - t\n"
        "np.savez(sys.argv[2], **out)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npz"
        np.savez(given, sigmas=np.array(sigmas), **{f"p{k}": plane for k, plane in enumerate(noisy)})
        subprocess.run([str(python), "-c", code, str(given), str(made)], check=True)
        with np.load(made) as result:
            return [result[f"p{k}"] for k in range(len(noisy))], [float(result[f"t{k}"]) for k in range(len(noisy))]


@dataclass(frozen=True)
class Bench:
    """What every part needs: held-out slices, the networks, and the Python that has bm3d."""

    slices: list[Slice]
    gaussian: PlaneRestorer
    low_dose: PlaneRestorer | None
    self_supervised: PlaneRestorer | None
    peer: Path | None
    sigmas: Sequence[int]
    kinds: Sequence[str]
    kernels: Sequence[Kernel]
    adapt: bool
    lesions: int

    def adapted_to(self, plane: Plane, level: float) -> PlaneRestorer:
        """A network that has learnt from this plane."""
        return adapted(self.gaussian, [NoisyPlane(plane, level)])


def decibels(truth: Plane, found: Plane) -> float:
    """PSNR for a data range of 1."""
    return psnr(truth, found, data_range=1.0)


def gaussian_part(bench: Bench) -> None:
    """White Gaussian noise: PSNR of every method on the same noisy slices, and the gain over BM3D by file."""
    print("\nWhite Gaussian noise, PSNR in dB (mean over slices), and the paired difference to BM3D")
    for sigma in bench.sigmas:
        level = sigma / 255
        random = np.random.default_rng([SEED, sigma])
        noisy = [s.plane + level * random.standard_normal(s.plane.shape, dtype=np.float32) for s in bench.slices]
        noisy = [plane for plane, s in zip(noisy, bench.slices, strict=True) if s.kind in bench.kinds]
        slices = [s for s in bench.slices if s.kind in bench.kinds]
        methods = {"noisy": noisy} | {
            name: [method(plane, level) for plane in noisy]
            for name, method in (("TV", total_variation), ("NLM", non_local_means))
        }
        if bench.peer is not None:
            methods["BM3D"], _ = bm3d(noisy, [level] * len(noisy), bench.peer)
        methods["careloop"] = [bench.gaussian.averaged(plane, level).plane for plane in noisy]
        if bench.adapt:
            start = time.perf_counter()
            methods["careloop, adapted"] = [
                bench.adapted_to(plane, level).averaged(plane, level).plane for plane in noisy
            ]
            print(f"  adapting takes {(time.perf_counter() - start) / len(noisy):.0f} s a slice")
        if bench.self_supervised is not None:
            methods[WITHOUT_TARGETS] = [bench.self_supervised.averaged(plane, level).plane for plane in noisy]
        show_methods(f"sigma {sigma}", slices, methods, against="BM3D", wanted=0.5)


def deblurring_part(bench: Bench) -> None:
    """Known Gaussian blur with a little noise; Wiener and Richardson-Lucy choose their setting from image and noise."""
    print("\nDeblurring: Gaussian blur, noise of sigma 2.55 of 255")
    random = np.random.default_rng([SEED, 3])
    level = 2.55 / 255

    def denoise(plane: Plane, step_level: float) -> Plane:
        return bench.gaussian(plane, step_level).plane

    for blur_px in BLURS_PX:
        psf = gaussian_psf(blur_px)
        soft = [
            blurred(s.plane, psf) + level * random.standard_normal(s.plane.shape, dtype=np.float32)
            for s in bench.slices
        ]
        methods = {
            "blurred": soft,
            "Wiener": [wiener(plane, psf, level) for plane in soft],
            "Richardson-Lucy": [richardson_lucy(plane, psf, level) for plane in soft],
            "careloop": [deblurred(plane, psf, level, denoise=denoise) for plane in soft],
        }
        for against in ("Wiener", "Richardson-Lucy"):
            show_methods(f"blur of {blur_px} px", bench.slices, methods, against=against, wanted=1.0)


def low_dose_part(bench: Bench) -> None:
    """Simulated low-dose scans of real CT slices; TV gets the weight that is best on the truth."""
    print(
        "\nLow-dose CT, simulated from real slices (360 views, Poisson and electronic noise, filtered back-projection)"
    )
    chosen = [s for s in bench.slices if s.kind == "CT"]
    for kernel in bench.kernels:
        random = np.random.default_rng([SEED, 4])
        scanner = replace(LOW_DOSE, kernel=kernel)
        scans = [project((s.plane * 2000 - 1000)[None], s.pixel_mm, scanner) for s in chosen]
        truth = [replace(s, plane=_unit(scan.full_dose[0])) for s, scan in zip(chosen, scans, strict=True)]
        for photons in PHOTONS:
            noisy = [_unit(low_dose(scan, random, photons=photons)[0]) for scan in scans]
            methods = _low_dose_methods(bench, truth, noisy)
            show_methods(f"{kernel}, {photons:.0e} photons", truth, methods, against="TV", wanted=1.0)


def _low_dose_methods(bench: Bench, truth: Sequence[Slice], noisy: Sequence[Plane]) -> dict[str, list[Plane]]:
    """The results of every method; those that know white noise only at the level that is best on the truth."""
    assert bench.low_dose is not None
    methods: dict[str, list[Plane]] = {"low dose": list(noisy), "TV": [], "NLM": [], "careloop": []}
    for one, plane in zip(truth, noisy, strict=True):
        for name, method in (("TV", total_variation), ("NLM", non_local_means)):
            methods[name].append(_best_on_truth(method, plane, one.plane))
        levels = local_levels(plane, bench.low_dose.model.said.level_maps)
        methods["careloop"].append(bench.low_dose.averaged(plane, levels).plane)
    if bench.peer is not None:
        count = len(OFFERED_LEVELS)
        tried, _ = bm3d([p for p in noisy for _ in range(count)], list(OFFERED_LEVELS) * len(noisy), bench.peer)
        methods["BM3D"] = [
            max(tried[k * count : (k + 1) * count], key=lambda found: decibels(one.plane, found))
            for k, one in enumerate(truth)
        ]
    return methods


def _best_on_truth(method: Callable[[Plane, float], Plane], noisy: Plane, truth: Plane) -> Plane:
    """The result at the best of the offered levels, climbed to from the middle one."""
    tried: dict[int, Plane] = {}
    place = len(OFFERED_LEVELS) // 2
    while True:
        for k in range(max(0, place - 1), min(place + 2, len(OFFERED_LEVELS))):
            if k not in tried:
                tried[k] = method(noisy, float(OFFERED_LEVELS[k]))
        best = max(tried, key=lambda k: decibels(truth, tried[k]))
        if best == place:
            return tried[best]
        place = best


def _unit(hu: np.ndarray) -> Plane:
    return ((hu + 1000) / 2000).astype(np.float32)


def lesions_part(bench: Bench) -> None:
    """Simulated lesions inserted into held-out slices before the noise: contrast kept, erased, invented.

    A lesion's contrast is that of the difference between the restored slice with the lesions and without, from the same
    noise. Those of a d' below 5 cannot be relied on to be seen in the noise by anybody, and are counted apart.
    The ideal observer looks wherever in tissue the smallest lesion would fit beside others.
    """
    print(f"\n{bench.lesions} simulated lesions in held-out slices: contrast kept (mean, 95 % interval), erased, new")
    rule = LesionRule(diameter_px=LESION_PX, contrast=LESION_CONTRAST)
    large = [s for s in bench.slices if min(s.plane.shape) >= 200]
    for sigma in bench.sigmas:
        level, random = sigma / 255, np.random.default_rng([SEED, 5, sigma])
        methods: dict[str, Callable[[Plane], Plane]] = {
            "noisy": lambda noisy: noisy,
            "TV": lambda noisy, level=level: total_variation(noisy, level),
            "NLM": lambda noisy, level=level: non_local_means(noisy, level),
            "careloop": lambda noisy, level=level: bench.gaussian.averaged(noisy, level).plane,
        }
        found: dict[str, list[LesionFidelity]] = {}
        inserted = slices = 0
        places = 0.0
        while inserted < bench.lesions:
            one = large[slices % len(large)]
            made = insert_lesions(
                one.plane, min(LESIONS_A_SLICE, bench.lesions - inserted), random, rule=rule, tissue=one.plane > TISSUE
            )
            inserted, slices = inserted + len(made.lesions), slices + 1
            places += (one.plane > TISSUE).sum() / (math.pi * (LESION_PX[0] / 2) ** 2)
            noise = level * random.standard_normal(one.plane.shape, dtype=np.float32)
            if bench.adapt:  # to the slice with the lesions, and that network is run on both
                network = bench.adapted_to(made.image + noise, level)
                methods["adapted"] = lambda noisy, network=network, level=level: network.averaged(noisy, level).plane
            for name, method in methods.items():
                found.setdefault(name, []).append(
                    lesion_fidelity(
                        made.image,
                        method(made.image + noise),
                        made.masks,
                        without=(one.plane, method(one.plane + noise)),
                        noise_level=level,
                        diameter_px=LESION_PX[0],
                        contrast=LESION_CONTRAST[0],
                    )
                )
        for name, cases in found.items():
            s = lesion_summary(cases)
            counts = f"invented {s.invented} in {s.images} slices, {s.invented_in_even} of them in even tissue"
            print(f"  sigma {sigma:3} {name:10} {_lesion_words(s)}, {counts}", flush=True)
            for low, high in DETECTABILITIES:
                s = lesion_summary(cases, detectability=(low, high))
                if s.lesions:
                    print(f"{'':23}d' {low:g} to {high:g}: {_lesion_words(s)}")
        seen = [value for case in found["careloop"] for value in case.detectability]
        for spots in sorted({1, lesion_summary(found["careloop"]).invented_in_even} - {0}):
            missed = ideal_misses(seen, places=places, false_alarms=spots)
            print(f"{'':13} an ideal observer with {spots} spots in even tissue misses {missed:.1f}", flush=True)


def time_part(bench: Bench) -> None:
    """Seconds of one 512 x 512 slice, network opened before, BM3D's beside it in turn."""
    print("\nOne 512 x 512 slice, seconds (median of 5), 2 cores at most")
    plane = next(s.plane for s in bench.slices if s.plane.shape == (512, 512))
    noisy = plane + 25 / 255 * np.random.default_rng(SEED).standard_normal(plane.shape, dtype=np.float32)
    bench.gaussian.averaged(noisy, 25 / 255)
    ours, theirs = [], []
    for _ in range(5):
        start = time.perf_counter()
        bench.gaussian.averaged(noisy, 25 / 255)
        ours.append(time.perf_counter() - start)
        theirs += bm3d([noisy], [25 / 255], bench.peer)[1] if bench.peer is not None else []
    text = f"  careloop {statistics.median(ours):.3f}"
    print(text + (f", BM3D {statistics.median(theirs):.2f}" if theirs else ""), flush=True)


def own_noise_part(bench: Bench) -> None:
    """The slices with no noise but their own, as `image restore` takes them: what came of them, or why they do not."""
    print("\nSlices as they are, by `image restore`: the noise level that it found, or why it refuses them")
    for kind in ("MR", "CT"):
        outcomes: list[str] = []
        for one in (s for s in bench.slices if s.kind == kind):
            values = one.plane * 2000 - 1000 if kind == "CT" else one.plane * 255
            try:
                made = restore(Volume(values[None], np.eye(4), kind, UNITS[kind]), RestorationTask(), threads=1)
            except RefusedSeriesError as error:
                outcomes += sorted({finding.check for finding in error.findings})
                found = "; ".join(finding.message for finding in error.findings)
            else:
                outcomes.append("restored")
                found = f"{made.levels[0]:.1f}, took out {np.std(values - made.volume.voxels[0]):.1f}"
            print(f"  {kind} {one.file:40} {found}")
        print(f"  {kind}: " + ", ".join(f"{outcomes.count(o)} {o}" for o in dict.fromkeys(outcomes)), flush=True)


def show_methods(
    what: str, slices: Sequence[Slice], methods: dict[str, list[Plane]], *, against: str, wanted: float
) -> None:
    """Mean PSNR of each method for CT and MR, and careloop's paired difference to one of them.

    `wanted` is the least difference that was aimed at; without clean targets, none.
    """
    for kind in sorted({s.kind for s in slices}):
        rows = [k for k, s in enumerate(slices) if s.kind == kind]
        figures = {
            name: np.array([decibels(slices[k].plane, planes[k]) for k in rows]) for name, planes in methods.items()
        }
        text = "  ".join(f"{name} {values.mean():.2f}" for name, values in figures.items())
        print(f"  {what:16} {kind} (n={len(rows)})  {text}")
        if against in figures:
            for name in (n for n in figures if n.startswith("careloop")):
                aim = 0.0 if name == WITHOUT_TARGETS else wanted
                text = _gain_words([slices[k] for k in rows], figures[name] - figures[against], aim)
                print(f"{'':19} {name} - {against}: {text}")
    print(end="", flush=True)


def _gain_words(slices: Sequence[Slice], gain: np.ndarray, aim: float) -> str:
    """The mean with its interval over people, by source, and the person with the least of it."""
    by_person = {person: _mean(slices, gain, person=person) for person in dict.fromkeys(s.person for s in slices)}
    least = min(by_person, key=lambda person: by_person[person])
    sources = dict.fromkeys(s.source for s in slices)
    parts = [f"{source} {_mean(slices, gain, source=source):+.3f}" for source in sources]
    return (
        f"{gain.mean():+.3f} dB ({_interval(list(by_person.values()))}"
        + (f"; {', '.join(parts)}" if len(parts) > 1 else "")
        + f"; least {by_person[least]:+.2f}, {least}), target at least {aim:g}: "
        + ("met" if gain.mean() >= aim else "MISSED")
    )


def _mean(slices: Sequence[Slice], gain: np.ndarray, **of: str) -> float:
    chosen = [all(getattr(s, name) == value for name, value in of.items()) for s in slices]
    return float(gain[chosen].mean())


def _interval(of_people: Sequence[float]) -> str:
    if len(of_people) < 2:
        return "one person"
    error = statistics.stdev(of_people) / math.sqrt(len(of_people))
    low, high = stats.t.interval(0.95, len(of_people) - 1, statistics.mean(of_people), error)
    return f"{low:+.2f} to {high:+.2f} over {len(of_people)} people"


def _lesion_words(s: LesionSummary) -> str:
    kept = f"contrast kept {_words(s.contrast_kept)}, within 5 % {_words(s.kept_within)}"
    return f"{kept}, erased {s.erased} of {s.lesions}"


def _words(estimate: Estimate) -> str:
    if estimate.value is None:
        return "none"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f} (too few slices for an interval)"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _restorer(model: RestorationModel, threads: int | None) -> PlaneRestorer:
    return PlaneRestorer(model, device="cpu", threads=threads)


PARTS = {"gaussian": gaussian_part, "deblurring": deblurring_part, "low-dose": low_dose_part, "lesions": lesions_part,
         "own-noise": own_noise_part, "time": time_part}  # fmt: skip


def main() -> None:
    """Print the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="Python of the environment with bm3d")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--sigmas", nargs="*", type=int, choices=SIGMAS, default=SIGMAS, help="of white noise")
    parser.add_argument("--kinds", nargs="*", choices=["CT", "MR"], default=["CT", "MR"], help="of white noise")
    parser.add_argument("--kernels", nargs="*", choices=KERNELS, default=KERNELS, help="of low-dose CT")
    parser.add_argument("--adapt", action="store_true", help="adapt the network to each slice as well; takes minutes")
    parser.add_argument("--lesions", type=int, default=LESIONS)
    parser.add_argument("--slices", type=int, default=6, help="of the head CT")
    parser.add_argument("--more-mr", type=Path, help="folder with the repositories of restoration_slices.py")
    parser.add_argument("--gaussian", type=Path, help="folder of another model than the shipped one")
    parser.add_argument("--low-dose", type=Path, help="folder of another model than the shipped one")
    parser.add_argument("--self-supervised", type=Path, help="folder of a model trained without clean targets")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    slices = held_out(given.slices, given.more_mr)
    bench = Bench(
        slices=slices,
        gaussian=_restorer(
            read_restoration(given.gaussian) if given.gaussian else shipped("gaussian noise"), given.threads
        ),
        low_dose=_restorer(
            read_restoration(given.low_dose) if given.low_dose else shipped("low-dose CT"), given.threads
        )
        if "low-dose" in given.parts
        else None,
        self_supervised=_restorer(read_restoration(given.self_supervised), given.threads)
        if given.self_supervised
        else None,
        peer=given.peer,
        sigmas=given.sigmas,
        kinds=given.kinds,
        kernels=given.kernels,
        adapt=given.adapt,
        lesions=given.lesions,
    )
    kinds = {kind: sum(s.kind == kind for s in slices) for kind in ("CT", "MR")}
    print(f"Held-out real slices: {kinds['CT']} CT, {kinds['MR']} MR, from {len({s.person for s in slices})} people")
    own = {s.file: 255 * noise_sigma(s.plane) for s in slices}  # of the last slice of each
    print("Noise that they have themselves, sigma of 255: " + ", ".join(f"{f} {n:.1f}" for f, n in own.items()))
    for part in given.parts:
        PARTS[part](bench)


if __name__ == "__main__":
    main()
