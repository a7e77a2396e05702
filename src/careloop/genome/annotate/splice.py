"""A splice model that a user gives as ONNX files: how an allele changes the scores of donor and acceptor sites.

Scores are those of SpliceAI (Jaganathan et al., Cell 2019;176:535): one-hot bases in, probabilities of (no site,
acceptor, donor) for each base out; the changes are taken within 50 bases of the variant. No model comes with this
package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from careloop import InputError
from careloop.genome.annotate.transcript import Transcript, reverse_complement
from careloop.genome.files.reference import Reference
from careloop.genome.variant import Variant
from careloop.genome.variants.alleles import trim

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REACH = 50  # bases on either side of the variant in which sites are looked at
LONGEST_DELETION = REACH  # bases; sites are aligned base by base, which longer changes make meaningless
_PROBE = 12_001  # bases of a first run that tells how much context a model cuts off
_CHANNELS, _CLASSES = 4, 3
_SUM_TOLERANCE = 1e-3  # of single precision
_ACCEPTOR, _DONOR = 1, 2


@dataclass(frozen=True)
class SpliceDelta:
    """The largest gain and loss of a site's probability near a variant (0 to 1)."""

    acceptor_gain: float
    acceptor_loss: float
    donor_gain: float
    donor_loss: float

    @property
    def largest(self) -> float:
        """The largest of the four."""
        return max(self.acceptor_gain, self.acceptor_loss, self.donor_gain, self.donor_loss)


class SpliceModel:
    """One model or several, whose scores are averaged; `context` is the bases that they cut off, of both sides."""

    def __init__(self, sessions: Sequence[Any], context: int, reference: Reference) -> None:
        self._sessions = sessions
        self.context = context
        self._reference = reference

    def delta(self, variant: Variant, transcript: Transcript) -> SpliceDelta | None:
        """How an allele changes the sites of a transcript, on its strand; bases outside the transcript are hidden.

        None for alleles that are not bases, are longer than 50 bases, or lie outside the transcript.
        """
        start, (ref, alt) = trim(variant.start, (variant.ref, variant.alt))
        inside = transcript.start <= start and start + len(ref) <= transcript.end
        if not variant.is_sequence or not inside or max(len(ref), len(alt)) > LONGEST_DELETION:
            return None
        before, after = self._around(start, len(ref), transcript)
        alleles = [before + allele + after for allele in (ref, alt)]
        if transcript.strand < 0:
            alleles = [reverse_complement(bases) for bases in alleles]
        old, new = (self.probabilities(bases) for bases in alleles)
        old, new = _aligned(old, new, len(ref), len(alt))
        change = new - old
        gains, losses = change.max(axis=0), (-change).max(axis=0)
        found = (gains[_ACCEPTOR], losses[_ACCEPTOR], gains[_DONOR], losses[_DONOR])
        return SpliceDelta(*(max(float(value), 0.0) for value in found))

    def _around(self, start: int, length: int, transcript: Transcript) -> tuple[str, str]:
        """Bases before and behind [start, start + length), N where they are not the transcript's."""
        flank = REACH + self.context // 2
        low, high = max(start - flank, transcript.start), min(start + length + flank, transcript.end)
        before = self._reference.fetch(transcript.contig, low, start).rjust(flank, "N")
        after = self._reference.fetch(transcript.contig, start + length, high).ljust(flank, "N")
        return before, after

    def probabilities(self, bases: str) -> NDArray[np.float64]:
        """Mean probabilities (length - context, 3) of no site, acceptor and donor."""
        import numpy as np

        return np.asarray(np.mean([_run(session, bases) for session in self._sessions], axis=0))


def open_splice_model(path: str | Path, reference: Reference) -> SpliceModel:
    """Open an ONNX file, or all of a folder (`*.onnx`), whose scores are averaged.

    A model takes one-hot bases (1, length, 4) or (1, 4, length) in the order A, C, G, T (N all zero) as float32, and
    gives probabilities (1, length - context, 3) or (1, 3, length - context).

    Raises:
        InputError: no file, not such a model, models of different context, or onnxruntime is missing.
    """
    path = Path(path)
    paths = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
    if not paths:
        raise InputError(f"{path}: no .onnx file in this folder; give the file of a splice model, or a folder of them")
    sessions = [_session(one) for one in paths]
    contexts = {_context(session, one) for session, one in zip(sessions, paths, strict=True)}
    if len(contexts) > 1:
        raise InputError(f"{path}: splice models that are averaged must cut off the same context; got {contexts}")
    return SpliceModel(sessions, contexts.pop(), reference)


def _context(session: Any, path: Path) -> int:
    """How many bases a model cuts off, told by a first run."""
    found = _run(session, "ACGT" * (_PROBE // 4) + "A")
    if found.size == 0 or abs(found.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
        raise InputError(f"{path}: a splice model gives probabilities of three classes that sum to 1")
    context = _PROBE - len(found)
    if context <= 0 or context % 2:
        raise InputError(
            f"{path}: a splice model cuts off an even context, by which its length is known; got {context}"
        )
    return context


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError('a splice model needs onnxruntime; pip install "careloop[genome]"') from None
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path of the splice model")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes are not public
        raise InputError(f"{path}: not an ONNX model that can be run ({type(error).__name__})") from None
    shapes = [one.shape for one in (*session.get_inputs(), *session.get_outputs())]
    if len(shapes) != 2 or any(len(shape) != 3 for shape in shapes) or _CHANNELS not in shapes[0][1:]:
        raise InputError(f"{path}: a splice model has one input (1, length, 4) and one output (1, length, 3)")
    return session


def _run(session: Any, bases: str) -> NDArray[np.float64]:
    import numpy as np

    (entry,) = session.get_inputs()
    hot = np.zeros((len(bases), _CHANNELS), dtype=np.float32)
    codes = np.frombuffer(bases.encode("ascii"), dtype=np.uint8)
    for channel, base in enumerate(b"ACGT"):
        hot[codes == base, channel] = 1
    last = entry.shape[2] == _CHANNELS
    (found,) = session.run(None, {entry.name: (hot if last else hot.T)[None]})
    (rows,) = np.asarray(found, dtype=np.float64)
    return rows if rows.shape[1] == _CLASSES else rows.T


def _aligned(
    old: NDArray[np.float64], new: NDArray[np.float64], removed: int, inserted: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of both sequences on the reference's bases: deleted bases have no site, inserted ones share a base."""
    import numpy as np

    start, shared = REACH, min(removed, inserted)
    if removed > inserted:
        gap = np.zeros((removed - inserted, old.shape[1]))
        new = np.concatenate([new[: start + shared], gap, new[start + shared :]])
    elif inserted > removed:
        at = max(start + shared - 1, 0)
        extra = inserted - removed
        joined = new[at : at + extra + 1].max(axis=0, keepdims=True)
        new = np.concatenate([new[:at], joined, new[at + extra + 1 :]])
    return old, new
