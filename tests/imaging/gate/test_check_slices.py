"""Random geometries with known truth: the affine is recovered, and what is broken is refused or told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.gate import check_slices
from careloop.imaging.slices import SliceHeader, Stack
from careloop.imaging.volume import is_upright

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
GEOMETRIES = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(4, 40)


def series(n: int, affine: NDArray[np.float64], **values: Any) -> list[SliceHeader]:
    """Headers of n slices on the grid of `affine`, as a scanner writes them: 16 characters a number."""
    down, across = affine[:3, 1], affine[:3, 2]
    spacing = (float(np.linalg.norm(down)), float(np.linalg.norm(across)))
    orientation = (written(across / spacing[1]), written(down / spacing[0]))
    common: dict[str, Any] = {"rows": 8, "columns": 9, "orientation": orientation, "pixel_spacing_mm": spacing}
    return [
        SliceHeader(
            **{
                "file": f"{hash((k, n)) % 1000}.dcm",
                "frame": 0,
                "instance": f"1.2.{k}",
                "instance_number": k + 1,
                "position": written(affine[:3, 3] + k * affine[:3, 0]),
                **common,
                **values,
            }
        )
        for k in range(n)
    ]


def written(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(f"{v:.10g}") for v in vector)
    return x, y, z


def along_z(n: int, spacing: float = 2.0, **values: Any) -> list[SliceHeader]:
    affine = np.diag([1.0, 0.7, 0.7, 1.0])
    affine[:3, :3] = np.array([[0, 0, 0.7], [0, 0.7, 0], [spacing, 0, 0]])
    affine[:3, 3] = (-100.0, -120.0, 30.0)
    return series(n, affine, **values)


def random_affine(seed: int, tilt_deg: float = 0.0) -> NDArray[np.float64]:
    """Any orientation, spacing and origin; the slice axis sheared from the normal by `tilt_deg` in any direction."""
    rng = np.random.default_rng(seed)
    axes = Rotation.random(random_state=rng).as_matrix()  # columns: normal, down, across, right-handed as needed
    normal, down = axes[:, 0], axes[:, 1]
    across = np.cross(down, normal)
    assert np.allclose(np.cross(across, down), normal)
    angle, tilt = rng.uniform(0, 2 * np.pi), np.deg2rad(tilt_deg)
    sideways = np.cos(angle) * down + np.sin(angle) * across
    affine = np.eye(4)
    affine[:3, 0] = (normal + np.tan(tilt) * sideways) * rng.uniform(0.5, 6)
    affine[:3, 1] = down * rng.uniform(0.3, 3)
    affine[:3, 2] = across * rng.uniform(0.3, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


def shuffled(slices: list[SliceHeader], seed: int) -> list[SliceHeader]:
    return [slices[i] for i in np.random.default_rng(seed).permutation(len(slices))]


def one(slices: list[SliceHeader], **more: str) -> Stack:
    (stack,) = check_slices(slices, where="the series", **more)
    return stack


def checks(stack: Stack) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in stack.findings}


def refused(slices: list[SliceHeader], **more: str) -> str:
    with pytest.raises(RefusedSeriesError) as caught:
        check_slices(slices, where="the series", **more)
    return next(f.check for f in caught.value.findings if f.verdict == "refused")


@GEOMETRIES
@given(seeds, counts)
def test_affine_of_any_upright_series_is_recovered_from_slices_in_any_order(seed: int, n: int) -> None:
    truth = random_affine(seed)
    stack = one(shuffled(series(n, truth), seed))
    np.testing.assert_allclose(stack.affine, truth, atol=1e-6)
    assert is_upright(stack.affine)
    assert [s.instance_number for s in stack.slices] == list(range(1, n + 1))
    assert stack.findings == ()


@GEOMETRIES
@given(seeds, counts, st.floats(0.2, 30.0))
def test_affine_of_a_tilted_series_is_sheared_and_recovered(seed: int, n: int, tilt_deg: float) -> None:
    truth = random_affine(seed, tilt_deg)
    stack = one(shuffled(series(n, truth), seed))
    np.testing.assert_allclose(stack.affine, truth, atol=1e-6)
    assert not is_upright(stack.affine)
    assert checks(stack) == {"gantry tilt": "handled"}


@GEOMETRIES
@given(seeds, counts, st.floats(0.0, 25.0), st.data())
def test_any_series_without_an_inner_slice_is_refused(seed: int, n: int, tilt_deg: float, data: st.DataObject) -> None:
    slices = series(n, random_affine(seed, tilt_deg))
    gone = data.draw(st.sets(st.integers(1, n - 2), min_size=1, max_size=3))
    left = [s for k, s in enumerate(slices) if k not in gone]
    uneven = {b - a for a, b in zip(kept(n, gone), kept(n, gone)[1:], strict=False)}
    assume(len(uneven) > 1)  # every second slice gone leaves an even series: the numbers must show it
    assert refused(shuffled(left, seed)) in {"missing slices", "changing spacing"}


def kept(n: int, gone: set[int]) -> list[int]:
    return [k for k in range(n) if k not in gone]


@GEOMETRIES
@given(seeds, counts, st.floats(0.3, 3.0), st.data())
def test_a_slice_out_of_place_is_refused(seed: int, n: int, part: float, data: st.DataObject) -> None:
    truth = random_affine(seed)
    slices = series(n, truth)
    moved = data.draw(st.integers(0, n - 1))
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3)
    spacing = np.linalg.norm(truth[:3, 0])
    offset = direction / np.linalg.norm(direction) * part * spacing
    end_along = moved in (0, n - 1) and abs(offset @ truth[:3, 0]) > 0.99 * spacing * np.linalg.norm(offset)
    assume(not end_along)
    at = truth[:3, 3] + moved * truth[:3, 0] + offset
    slices[moved] = replace(slices[moved], position=written(at))
    refused(slices)


@GEOMETRIES
@given(seeds, st.integers(2, 12), st.integers(2, 4), st.floats(0.0, 20.0))
def test_volumes_in_one_series_are_told_apart_by_a_header_value(seed: int, n: int, volumes: int, tilt: float) -> None:
    truth = random_affine(seed, tilt)
    mixed = [
        replace(
            s, instance=f"{v}.{s.instance}", instance_number=v + volumes * k, stacks={"EchoTime": str(10 * (v + 1))}
        )
        for v in range(volumes)
        for k, s in enumerate(series(n, truth))
    ]
    stacks = check_slices(shuffled(mixed, seed), where="the series")
    assert [stack.varies for stack in stacks] == [{"EchoTime": str(10 * (v + 1))} for v in range(volumes)]
    for stack in stacks:
        np.testing.assert_allclose(stack.affine, truth, atol=1e-6)
        assert checks(stack)["interleaved series"] == "handled"


@GEOMETRIES
@given(seeds, st.integers(2, 12), st.floats(0.1, 0.9))
def test_volumes_between_each_other_are_told_apart(seed: int, n: int, part: float) -> None:
    truth = random_affine(seed)
    between = truth.copy()
    between[:3, 3] += part * truth[:3, 0]
    mixed = [
        replace(s, instance=f"{name}{s.instance}", stacks={"ConvolutionKernel": name})
        for name, affine in (("bone", truth), ("soft", between))
        for s in series(n, affine)
    ]
    bone, soft = check_slices(shuffled(mixed, seed), where="the series")
    np.testing.assert_allclose(bone.affine, truth, atol=1e-6)
    np.testing.assert_allclose(soft.affine, between, atol=1e-6)


def test_missing_slices_are_named() -> None:
    slices = along_z(20)
    with pytest.raises(
        RefusedSeriesError, match=r"3 of 20 .* 1 between 38.00 mm \(instance 5\) and 42.00 mm"
    ) as caught:
        check_slices([s for k, s in enumerate(slices) if k not in (5, 10, 11)], where="the series")
    (finding,) = caught.value.findings
    assert "2 between 48.00 mm (instance 10) and 54.00 mm (instance 13)" in finding.message


@pytest.mark.parametrize("n", [3, 5, 9])
def test_every_second_slice_is_missed_by_numbers_and_thickness(n: int) -> None:
    slices = along_z(n, slice_thickness_mm=2.0)
    assert refused(slices[::2]) == "missing slices"
    assert "missing slices" not in checks(one(along_z(n, slice_thickness_mm=2.0)))


def test_counts_of_the_header_show_missing_ends() -> None:
    counted = [replace(s, slices_in_volume=10) for s in along_z(10)]
    assert one(counted, modality="PT").findings == ()
    assert refused(counted[:9]) == "missing slices"
    placed = [replace(s, in_stack_position=k + 1) for k, s in enumerate(along_z(10))]
    assert one(placed).findings == ()
    assert refused(placed[1:]) == "missing slices"
    assert checks(one(along_z(10)[3:])) == {"missing slices": "noted"}


def test_a_slice_missing_from_one_of_two_volumes_is_refused() -> None:
    def echo(time: str) -> list[SliceHeader]:
        return [replace(s, instance=time + s.instance, stacks={"EchoTime": time}) for s in along_z(3)]

    first, second = echo("10"), echo("20")
    assert len(check_slices(first + second, where="the series")) == 2
    assert refused([*first, second[0], second[2]]) == "missing slices"
    stacks = check_slices(first + second[:2], where="the series")
    assert checks(stacks[0])["missing slices"] == "noted"


def test_copies_are_left_out_and_different_slices_at_one_place_refused() -> None:
    slices = along_z(6)
    again = replace(slices[2], file="copy.dcm")
    assert checks(one([*slices, again])) == {"duplicate positions": "handled"}
    sent_twice = replace(slices[2], file="copy.dcm", instance="1.9")
    assert len(one([*slices, sent_twice]).slices) == 6
    assert refused([*slices, replace(sent_twice, instance_number=77)]) == "duplicate positions"
    assert refused([*slices, replace(again, position=(0.0, 0.0, 0.0))]) == "duplicate positions"


def test_values_that_change_within_a_volume_do_not_take_it_apart() -> None:
    moving = [
        replace(s, stacks={"TriggerTime": str(k), "AcquisitionNumber": str(k % 2)}) for k, s in enumerate(along_z(8))
    ]
    assert one(moving).varies == {}
    scattered = [replace(s, stacks={"EchoTime": str(k)}) for k, s in enumerate(along_z(8))]
    assert one(scattered).varies == {}
    assert checks(one(scattered)) == {"mixed values": "noted"}
    assert refused(scattered[:3] + scattered[4:]) == "missing slices"
    dynamic = [
        replace(s, instance=f"{t}.{s.instance}", stacks={"AcquisitionNumber": str(t)})
        for t in range(3)
        for s in along_z(8)
    ]
    assert len(check_slices(dynamic, where="the series")) == 3


def test_a_value_that_changes_along_the_table_does_not_hide_a_gap() -> None:
    steps = [replace(s, stacks={"AcquisitionNumber": str(k // 2)}) for k, s in enumerate(along_z(12))]
    assert one(steps).varies == {}
    assert refused([s for k, s in enumerate(steps) if k not in (4, 5)]) == "missing slices"


def test_one_place_at_many_times_is_many_volumes() -> None:
    (first,) = along_z(1)
    film = [
        replace(first, instance=str(t), instance_number=t, stacks={"TemporalPositionIdentifier": str(t)})
        for t in range(5)
    ]
    assert len(check_slices(film, where="the series")) == 5


def test_two_volumes_one_between_the_other_without_a_word_of_it_are_refused() -> None:
    halves = along_z(8, slice_thickness_mm=4.0)
    mixed = [replace(s, instance_number=1 + k // 2 + 100 * (k % 2)) for k, s in enumerate(halves)]
    assert refused(mixed) == "interleaved series"
    acquired = [replace(s, slice_thickness_mm=2.0) for s in mixed]  # one volume, acquired in two packages
    assert len(one(acquired).slices) == 8
    assert len(one(halves).slices) == 8  # one volume, overlapping reconstruction


def test_spacing_that_changes_is_refused() -> None:
    coarse = [
        replace(s, instance=f"2{s.instance}", position=(-100.0, -120.0, 46.0 + 5 * k)) for k, s in enumerate(along_z(8))
    ]
    assert refused(along_z(8) + coarse) == "changing spacing"
    slices = along_z(8)
    assert refused([*slices[:7], replace(slices[7], pixel_spacing_mm=(0.7, 0.71))]) == "changing spacing"
    assert refused([*slices[:7], replace(slices[7], rows=16)]) == "changing spacing"
    bent = [replace(s, position=(-100.0 + (k - 4) ** 2, -120.0, 30.0 + 2 * k)) for k, s in enumerate(slices)]
    assert refused(bent) == "changing spacing"


def test_positions_rounded_to_a_tenth_are_one_volume() -> None:
    rounded = [replace(s, position=(-100.0, -120.0, round(k * 0.625, 1))) for k, s in enumerate(along_z(100))]
    stack = one(rounded)
    assert checks(stack) == {"changing spacing": "noted"}
    assert stack.affine[2, 0] == pytest.approx(0.625, abs=1e-3)


def test_a_missing_slice_is_seen_at_any_spacing() -> None:
    assert refused(along_z(10, spacing=0.1)[:4] + along_z(10, spacing=0.1)[5:]) == "missing slices"
    assert one(along_z(10, spacing=0.1)).placed


def test_orientations_of_a_localizer_are_volumes_of_their_own() -> None:
    sagittal = [
        replace(
            s, instance=f"s{s.instance}", orientation=((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)), position=(2.0 * k, 0.0, 0.0)
        )
        for k, s in enumerate(along_z(3))
    ]
    stacks = check_slices(along_z(5) + sagittal, where="the series")
    assert sorted(stack.varies["orientation"] for stack in stacks) == ["axial", "sagittal"]
    assert all(checks(stack)["mixed orientations"] == "handled" for stack in stacks)
    angles = np.linspace(0, 3, 12)
    radial = [
        replace(s, orientation=((float(np.cos(a)), float(np.sin(a)), 0.0), (0.0, 0.0, -1.0)))
        for s, a in zip(along_z(12), angles, strict=True)
    ]
    assert refused(radial) == "mixed orientations"


def test_pictures_have_no_place_and_volumes_without_one_are_refused() -> None:
    lost = [replace(s, position=None, orientation=None) for s in along_z(4)]
    stacks = check_slices(lost, where="the series", modality="DX")
    assert [stack.placed for stack in stacks] == [False] * 4
    np.testing.assert_array_equal(stacks[0].affine, np.diag([1, 0.7, 0.7, 1]))
    assert checks(stacks[0]) == {"no geometry": "noted"}
    assert refused(lost, modality="CT") == "no geometry"
    assert refused([*along_z(4), replace(lost[0], instance="9")]) == "no geometry"
    frames = [replace(s, instance="1", frame=k) for k, s in enumerate(lost)]
    assert len(one(shuffled(frames, 3), modality="US").slices) == 4


def test_header_and_positions_that_disagree_on_tilt_are_noted() -> None:
    assert checks(one([replace(s, gantry_tilt_deg=15.0) for s in along_z(5)])) == {"gantry tilt": "noted"}
    sideways = [replace(s, position=(5.0 * k, -120.0, 2.0 * k)) for k, s in enumerate(along_z(5))]
    assert refused(sideways) == "gantry tilt"


def test_grey_values_that_the_reader_puts_right_are_told() -> None:
    slices = [replace(s, photometric="MONOCHROME1", slope=1.0 + k) for k, s in enumerate(along_z(4))]
    assert checks(one(slices)) == {"MONOCHROME1": "handled", "per-slice rescale": "handled"}
    assert refused([replace(s, rescale_type="HU" if k else "US") for k, s in enumerate(slices)]) == "per-slice rescale"
    assert refused([*slices[:3], replace(slices[3], photometric="RGB")]) == "mixed pixels"


@pytest.mark.parametrize(
    "nonsense",
    [
        {"position": (0.0, float("nan"), 0.0)},
        {"position": (0.0, 0.0, 1e30)},
        {"orientation": ((0.0, 0.0, 0.0), (0.0, 1.0, 0.0))},
        {"orientation": ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0))},
        {"pixel_spacing_mm": (-1.0, 1.0)},
        {"pixel_spacing_mm": None},
        {"slope": 0.0},
        {"intercept": float("inf")},
        {"rows": 0},
    ],
)
def test_values_that_cannot_be_are_refused(nonsense: dict[str, Any]) -> None:
    slices = along_z(5)
    refused([*slices[:4], replace(slices[4], **nonsense)])
    refused([replace(s, **nonsense) for s in slices])


def test_texts_of_headers_are_short_and_on_one_line_in_messages() -> None:
    slices = [replace(s, rescale_type="\x01\n" * 60 if k else "HU") for k, s in enumerate(along_z(4))]
    with pytest.raises(RefusedSeriesError) as caught:
        check_slices(slices, where="the series")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 200


def test_instance_numbers_may_be_of_any_size() -> None:
    assert one([replace(s, instance_number=10**400 + k) for k, s in enumerate(along_z(5))]).placed


def test_nothing_is_refused() -> None:
    assert refused([]) == "no slices"


def test_one_slice_takes_its_extent_from_its_thickness() -> None:
    stack = one(along_z(1, slice_thickness_mm=3.0))
    assert stack.affine[2, 0] == 3.0
    assert checks(stack) == {"single slice": "noted"}


@GEOMETRIES
@given(st.integers(1, 500), st.floats(0.2, 10.0), st.floats(-2000, 2000))
def test_even_series_of_any_length_pass(n: int, spacing: float, start: float) -> None:
    slices = [replace(s, position=(0.0, 0.0, float(f"{start + k * spacing:.10g}"))) for k, s in enumerate(along_z(n))]
    assert one(slices).affine[2, 3] == pytest.approx(start, abs=1e-5)
