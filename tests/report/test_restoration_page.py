"""The page of a restored image: whole in itself, plain about what the picture is, with the right pictures in it."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_page import Page, loaded_from_outside
from numpy.typing import NDArray
from PIL import Image

from careloop import InputError
from careloop.imaging.finding import SIMULATED, Finding
from careloop.imaging.volume import Source, Volume
from careloop.report import restoration_pictures
from careloop.report.restoration_page import Quality, RestorationFacts, restoration_page, write_restoration_page
from careloop.report.restoration_pictures import BUDGET, MOST_SLICES, colours

HU = "[hnsf'U]"
AXIAL = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
Slices = NDArray[np.float32]


def facts(slices: int = 3, *, size: int = 24, finer: int = 1, unit: str = HU) -> RestorationFacts:
    """Water with noise, most of it in the second slice (if there is one), restored to even water."""
    rng = np.random.default_rng(0)
    before = rng.normal(40, 5, (slices, size, size)).astype(np.float32)
    before[1 % slices] += rng.normal(0, 20, (size, size))
    original = Volume(before, AXIAL, "CT", unit, "ABDOMEN", source=Source(patient_id="PAT-4711", study="1.2.840.77"))
    after = np.full((slices, size * finer, size * finer), 40, np.float32)
    restored = replace(original, voxels=after, affine=AXIAL @ np.diag([1, 1 / finer, 1 / finer, 1]))
    error = np.full(after.shape, 3, np.float32) * np.linspace(0, 1, after.shape[2], dtype=np.float32)
    return RestorationFacts(original, restored, "noise reduced", "grain 1.2", expected_error=error)


def pictures(html: str, alt: str) -> list[Image.Image]:
    """Pictures whose description begins so."""
    found = re.findall(rf'<img[^>]*alt="{re.escape(alt)}[^"]*"[^>]*base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_it_is_whole_in_itself_and_has_no_patient(tmp_path: Path) -> None:
    write_restoration_page(facts(), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not loaded_from_outside(html)
    assert "default-src 'none'" in html
    assert "PAT-4711" not in html
    assert "1.2.840.77" not in html


def test_it_says_what_the_picture_is_and_what_to_compare() -> None:
    text = Page(restoration_page(facts())).text
    assert text.count("Research software. Not for clinical use.") == 2
    assert "grain 1.2" in text
    assert "Noise reduced" in text
    assert "The restored picture is derived: no scanner measured it. Every pixel was changed." in text
    for compared in ("each finding", "what was taken out", "the expected error", "measurements"):
        assert compared in text
    assert "Simulated" not in text


def test_what_the_difference_should_look_like_depends_on_what_is_taken_out() -> None:
    assert "should look like noise, without outlines" in Page(restoration_page(facts())).text
    assert "the blur along edges" in Page(restoration_page(replace(facts(), taken_out="blur"))).text
    assert "should change slowly" in Page(restoration_page(replace(facts(), taken_out="shading"))).text


@pytest.mark.parametrize("how", ["flag", "finding"])
def test_what_is_simulated_is_called_so(how: str) -> None:
    given = replace(facts(), simulated=True) if how == "flag" else replace(facts(), findings=(SIMULATED,))
    assert "Simulated images: they show no patient." in Page(restoration_page(given)).text


def test_pictures_are_the_images_in_the_window() -> None:
    given = facts()
    html = restoration_page(given)
    (before,) = pictures(html, "Slice 3 before restoration")
    (after,) = pictures(html, "Slice 3 after restoration")
    plane = given.original.voxels[2].astype(float)
    wanted = np.clip((plane + 160) / 400, 0, 1) * 255  # the soft tissue window
    assert np.abs(np.asarray(before).astype(float) - wanted).max() <= 0.5
    assert set(np.asarray(after).ravel().tolist()) == {round(200 / 400 * 255)}


def test_what_was_taken_out_is_grey_around_nothing_with_its_scale() -> None:
    given = facts()
    html = restoration_page(given)
    end = float(re.search(r"\+([\d.]+) HU", Page(html).text).group(1))  # type: ignore[union-attr]
    (shown,) = pictures(html, "What was taken out of slice 2")
    found = np.asarray(shown).astype(float) / 255 * 2 * end - end
    taken_out = np.clip(given.original.voxels[1] - 40, -end, end)
    assert np.abs(found - taken_out).max() <= 3 * end / 255 * 2  # 64 levels
    same = restoration_page(replace(given, restored=given.original))
    assert "Nothing was taken out of this image: it is as it was." in Page(same).text
    assert set(np.asarray(pictures(same, "What was taken out of slice 2")[0]).ravel().tolist()) == {128}


def test_expected_errors_have_the_colours_of_their_bar() -> None:
    html = restoration_page(facts())
    (shown,) = pictures(html, "Expected error of slice 1")
    picture = np.asarray(shown.convert("RGB")).astype(int)
    assert np.abs(picture[0, 0] - colours()[0]).max() <= 8
    assert np.abs(picture[0, -1] - colours()[255]).max() <= 8
    assert "0 1.5 3 HU" in Page(html).text
    without = Page(restoration_page(replace(facts(), expected_error=None)))
    assert "This method gives no expected error." in without.text
    assert "the expected error there" not in without.text


def test_the_slice_changed_most_is_shown_first_and_marked() -> None:
    html = restoration_page(facts(slices=40))
    shown = [int(n) for n in re.findall(r'alt="Expected error of slice (\d+)"', html)]
    assert len(shown) == MOST_SLICES
    assert shown == sorted(shown)
    assert 2 in shown
    assert re.search(r'<input type="radio" name="slice" value="\d+" checked><span>2 <small>changed most', html)
    assert "12 of 40 slices are shown" in Page(html).text
    assert len(re.findall(r'class="view shown"', html)) == 1


def test_windows_of_ct_can_be_chosen_and_other_images_have_one() -> None:
    given = facts()
    voxels = given.original.voxels.copy()
    voxels[:, :8], voxels[:, 20:] = -800, 700
    chest = replace(given, original=replace(given.original, voxels=voxels))
    text = Page(restoration_page(chest)).text
    assert "soft tissue window -160 to 240 HU lung window -1,350 to 150 HU bone window -450 to 1,050 HU" in text
    assert 'name="window"' not in restoration_page(facts(unit=""))
    head = replace(given, original=replace(given.original, body_part="HEAD"))
    assert "brain window 0 to 80 HU bone window" in Page(restoration_page(head)).text


def test_a_finer_grid_is_averaged_onto_the_originals() -> None:
    html = restoration_page(facts(finer=2))
    assert pictures(html, "Slice 2 after")[0].size == (48, 48)
    assert pictures(html, "What was taken out of slice 2")[0].size == (24, 24)
    text = Page(html).text
    assert "The restored image was averaged onto the original's pixels." in text
    assert "Restored: voxel 3 × 1 × 1 mm" in text


def test_sides_are_the_patients_however_slices_are_stored() -> None:
    given = facts(slices=1)
    turned = [replace(v, voxels=v.voxels[:, ::-1].swapaxes(1, 2), affine=v.affine @ [[1, 0, 0, 0], [0, 0, -1, 23],
              [0, 1, 0, 0], [0, 0, 0, 1]]) for v in (given.original, given.restored)]  # fmt: skip
    error = given.expected_error
    assert error is not None
    other = replace(given, original=turned[0], restored=turned[1], expected_error=error[:, ::-1].swapaxes(1, 2))
    one, two = (pictures(restoration_page(each), "Slice 1 before")[0] for each in (given, other))
    assert np.array_equal(np.asarray(one), np.asarray(two))
    assert "Edges: top A, bottom P, left R, right L." in Page(restoration_page(other)).text
    nowhere = replace(given, original=replace(given.original, placed=False))
    assert "sides are not marked" in Page(restoration_page(nowhere)).text


def test_the_slider_is_an_input_with_a_name_and_all_is_seen_without_scripts() -> None:
    html = restoration_page(facts())
    assert re.search(r'<input type="range" min="0" max="100" value="50" aria-label="[^"]+">', html)
    hidden = [rule for rule in re.findall(r"[^{}]*\{[^{}]*display: none[^{}]*\}", html) if ".view" in rule]
    assert hidden
    assert all(".live" in rule for rule in hidden)


def test_noise_levels_quality_and_findings_are_shown() -> None:
    quality = (Quality("PSNR", 20.2, 31.44, "Beside the image before noise was added.", "dB"),)
    finding = Finding("grain", "handled", "slices were put in order")
    text = Page(restoration_page(replace(facts(), levels=(5.0, 6.0, 7.0), quality=quality, findings=(finding,)))).text
    assert "Noise level (standard deviation) of slices: median 6 HU, from 5 to 7." in text
    assert "Noise level of each slice" in text
    assert "PSNR 20.2 dB 31.44 dB Beside the image before noise was added." in text
    assert "put right grain slices were put in order" in text
    none = Page(restoration_page(facts()))
    assert "Noise and quality" not in none.text
    assert "svg" not in none.tags


def test_hostile_text_is_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    given = facts()
    given = replace(
        given, done=evil, made_by=evil, findings=(Finding(evil, "noted", evil),),
        quality=(Quality(evil, 1, 2, evil, evil),),
        original=replace(given.original, modality=evil, body_part=evil, unit=evil),
    )  # fmt: skip
    html = restoration_page(given)
    assert "<script>alert" not in html
    assert Page(html).tags.count("script") == 1


def test_large_images_do_not_make_a_large_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoration_pictures, "BUDGET", BUDGET // 200)
    html = restoration_page(facts(slices=40, size=64))
    assert len(html) < BUDGET // 200 + 60_000
    assert 1 < len(pictures(html, "Expected error")) < MOST_SLICES
    monkeypatch.setattr(restoration_pictures, "BUDGET", 6_000)
    html = restoration_page(facts(slices=1, size=96))
    text = Page(html).text
    factor = int(re.search(r"(\d) × \1 pixels were averaged to one", text).group(1))  # type: ignore[union-attr]
    assert pictures(html, "Slice 1 before")[0].size == (96 // factor, 96 // factor)


def test_images_that_do_not_belong_together_are_refused() -> None:
    given = facts()
    fewer = replace(given.restored, voxels=given.restored.voxels[:2])
    with pytest.raises(InputError, match="must have the original's slices"):
        restoration_page(replace(given, restored=fewer))
    with pytest.raises(InputError, match="whole multiples"):
        restoration_page(replace(given, restored=replace(given.restored, voxels=np.zeros((3, 30, 24), np.float32))))
    with pytest.raises(InputError, match="expected error must have"):
        restoration_page(replace(given, expected_error=np.zeros((3, 2, 2), np.float32)))
    with pytest.raises(InputError, match="noise levels must be one a slice"):
        replace(given, levels=(1.0,))


def test_unknown_values_do_not_spoil_the_page() -> None:
    given = facts()
    voxels = given.original.voxels.copy()
    voxels[0, 0, 0] = np.nan
    assert "nan" not in Page(restoration_page(replace(given, original=replace(given.original, voxels=voxels)))).text
