"""A splice model given as ONNX: changes of site scores beside a search for GT and AG in the two sequences."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from careloop import InputError
from careloop.genome.annotate.splice import REACH, SpliceDelta, open_splice_model
from careloop.genome.annotate.transcript import Transcript
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.variant import Variant

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("pysam")
np = pytest.importorskip("numpy")

OPPOSITE = str.maketrans("ACGTN", "TGCAN")


def motif_model(path: Path, *, bases_last: bool = True, width: int = 5, sharpness: float = 40) -> Path:
    """A network of one layer: a base after AG is an acceptor, else one before GT a donor, by softmax."""
    weights = np.zeros((3, 4, width), dtype=np.float32)
    centre = width // 2
    for channel, base, at in ((1, "A", -2), (1, "G", -1), (2, "G", 1), (2, "T", 2)):
        weights[channel, "ACGT".index(base), centre + at] = sharpness * (2 if channel == 1 else 1)
    bias = np.array([0, -3 * sharpness, -1.5 * sharpness], dtype=np.float32)
    helper = onnx.helper
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1])] if bases_last else []
    nodes += [helper.make_node("Conv", ["t" if bases_last else "x", "w", "b"], ["c"])]
    nodes += [helper.make_node("Softmax", ["c"], ["s" if bases_last else "y"], axis=1)]
    nodes += [helper.make_node("Transpose", ["s"], ["y"], perm=[0, 2, 1])] if bases_last else []
    kind = onnx.TensorProto.FLOAT
    shapes = ([1, "n", 4], [1, "m", 3]) if bases_last else ([1, 4, "n"], [1, 3, "m"])
    graph = helper.make_graph(
        nodes,
        "motifs",
        [helper.make_tensor_value_info("x", kind, shapes[0])],
        [helper.make_tensor_value_info("y", kind, shapes[1])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    path = tmp_path / "reference.fa"
    path.write_text(">1\n" + "".join(random.Random(2).choices("ACGT", k=4000)) + "\n")
    return open_reference(path)


def sites(bases: list[tuple[str, int]]) -> tuple[set[int], set[int]]:
    """Reference positions of acceptors (behind AG) and donors (before GT, where they are no acceptor)."""
    text = "".join(base for base, _ in bases)
    acceptors = {i for i in range(2, len(text)) if text[i - 2 : i] == "AG"}
    donors = {i for i in range(len(text) - 2) if text[i + 1 : i + 3] == "GT"} - acceptors
    return {bases[i][1] for i in acceptors}, {bases[i][1] for i in donors}


def by_search(sequence: str, variant: Variant, transcript: Transcript) -> tuple[int, int, int, int]:
    """Acceptor gain and loss, donor gain and loss, as 0 or 1, by searching the two sequences base by base."""
    start, ref, alt = variant.start, variant.ref, variant.alt
    while ref and alt and ref[0] == alt[0]:
        start, ref, alt = start + 1, ref[1:], alt[1:]
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    inside = range(transcript.start, transcript.end)
    low, high = start - 60, start + len(ref) + 60

    def bases(at: int) -> str:
        return sequence[at] if at in inside else "N"

    plus = transcript.strand > 0
    old = [(bases(at), at) for at in range(low, high)]
    before, after = [(bases(at), at) for at in range(low, start)], [(b, p) for b, p in old if p >= start + len(ref)]
    shared = min(len(ref), len(alt))
    if plus:
        middle = [(b, start + min(i, shared - 1)) for i, b in enumerate(alt)]
    else:  # the bases correspond from the other end, which is the transcript's beginning
        last = start + len(ref)
        middle = [(b, last - 1 - min(i, shared - 1)) for i, b in enumerate(reversed(alt))][::-1]
    new = before + middle + after
    if not plus:
        old, new = ([(b.translate(OPPOSITE), p) for b, p in reversed(one)] for one in (old, new))
    window = set(range(start - REACH, start + len(ref) + REACH))
    found = []
    for were, are in zip(sites(old), sites(new), strict=True):
        found += [int(bool((are - were) & window)), int(bool((were - are) & window))]
    return found[0], found[1], found[2], found[3]


@pytest.mark.parametrize("strand", [1, -1])
@pytest.mark.parametrize("bases_last", [True, False])
def test_changes_are_those_that_a_search_finds(
    reference: Reference, tmp_path: Path, strand: int, *, bases_last: bool
) -> None:
    model = open_splice_model(motif_model(tmp_path / "m.onnx", bases_last=bases_last), reference)
    assert model.context == 4
    sequence, rng = reference.fetch("1", 0, 4000), random.Random(strand)
    transcript = Transcript("T", "G", "G", "1", strand, ((1000, 1400), (1600, 3000)))
    seen = set()
    for _ in range(150):
        at, size = rng.choice([rng.randrange(1005, 2980), rng.randrange(1001, 1060)]), rng.randint(1, 5)
        made = "".join(rng.choices("ACGT", k=size))
        ref, alt = rng.choice(
            [(sequence[at], made[0]), (sequence[at : at + size + 1], sequence[at]), (sequence[at], sequence[at] + made),
             (sequence[at : at + 3], made)]
        )  # fmt: skip
        if ref == alt:
            continue
        variant = Variant("1", at, ref, alt)
        delta = model.delta(variant, transcript)
        assert delta is not None
        numbers = (delta.acceptor_gain, delta.acceptor_loss, delta.donor_gain, delta.donor_loss)
        expected = by_search(sequence, variant, transcript)
        assert numbers == pytest.approx(expected, abs=1e-6), (variant, expected)
        seen.add(expected)
    assert len(seen) > 6


def test_bases_outside_the_transcript_are_hidden(reference: Reference, tmp_path: Path) -> None:
    model = open_splice_model(motif_model(tmp_path / "m.onnx"), reference)
    sequence = reference.fetch("1", 0, 4000)
    at = sequence.index("GT", 1200)
    variant = Variant("1", at, "G", "C")
    assert model.delta(variant, Transcript("T", "G", "G", "1", 1, ((1000, 3000),))) is not None
    hidden = model.delta(variant, Transcript("T", "G", "G", "1", 1, ((1000, at + 1),)))
    assert hidden is not None
    assert hidden.donor_loss == pytest.approx(0, abs=1e-6)
    assert model.delta(variant, Transcript("T", "G", "G", "1", 1, ((2500, 3000),))) is None
    assert model.delta(Variant("1", 1500, "A", "A" + "C" * 51), Transcript("T", "G", "G", "1", 1, ((9, 3000),))) is None


def test_models_of_a_folder_are_averaged(reference: Reference, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    one = open_splice_model(motif_model(folder / "a.onnx", sharpness=2), reference)
    both_paths = [folder / "a.onnx", motif_model(folder / "b.onnx", sharpness=40)]
    singles = [open_splice_model(path, reference).probabilities("ACAGTTAGGT") for path in both_paths]
    both = open_splice_model(folder, reference)
    assert both.context == one.context
    assert both.probabilities("ACAGTTAGGT") == pytest.approx(np.mean(singles, axis=0))
    motif_model(folder / "c.onnx", width=7)
    with pytest.raises(InputError, match="the same context"):
        open_splice_model(folder, reference)


def test_what_is_no_splice_model_is_refused(reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_splice_model(tmp_path / "none.onnx", reference)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(InputError, match="not an ONNX model"):
        open_splice_model(tmp_path / "text.onnx", reference)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \.onnx file"):
        open_splice_model(tmp_path / "empty", reference)
    with pytest.raises(InputError, match="even context"):
        open_splice_model(motif_model(tmp_path / "even.onnx", width=6), reference)


def test_the_largest_change_is_the_delta_score() -> None:
    assert SpliceDelta(0.1, 0.7, 0.2, 0.0).largest == 0.7
