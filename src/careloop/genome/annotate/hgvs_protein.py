"""Names of predicted protein changes by the HGVS nomenclature (21.1, protein recommendations)."""

from __future__ import annotations

from itertools import takewhile

from careloop.genome.annotate.coding import STOP, CodingChange, up_to_stop

THREE_LETTERS = {
    "A": "Ala", "C": "Cys", "D": "Asp", "E": "Glu", "F": "Phe", "G": "Gly", "H": "His", "I": "Ile", "K": "Lys",
    "L": "Leu", "M": "Met", "N": "Asn", "P": "Pro", "Q": "Gln", "R": "Arg", "S": "Ser", "T": "Thr", "V": "Val",
    "W": "Trp", "Y": "Tyr", "X": "Xaa", "*": "Ter",
}  # fmt: skip


def protein_name(change: CodingChange) -> str:
    """The predicted change, in brackets as it is not shown by experiment: `p.(Arg26Leu)`, `p.(Arg97ProfsTer23)`.

    `p.?` where nothing can be predicted: the coding part is incomplete at the place, or has a stop before it
    (selenoproteins, wrong gene models).
    """
    if change.in_last_partial_codon or not change.translated:
        return "p.?"
    if change.touches_start and not change.keeps_start:
        return "p.(Met1?)"
    before, after = change.spliced.protein, change.protein
    at = _shared(before, after)
    if before != after and (at in (len(before), len(after)) or (at == 0 and change.size > 0)):
        return "p.?"  # the annotated sequence ends, or begins, where the difference is
    return f"p.({_change(change, before, after)})"


def _change(change: CodingChange, before: str, after: str) -> str:
    first = change.spliced.first_codon
    if before == after:
        return _unchanged(change, first)
    at = _shared(before, after)
    if after[at] == STOP:
        return f"{_residue(before, at, first)}Ter"
    if before[at] == STOP:
        return f"{_residue(before, at, first)}{THREE_LETTERS[after[at]]}extTer{_to_stop(after, at + 1)}"
    if change.frameshift:
        return f"{_residue(before, at, first)}{THREE_LETTERS[after[at]]}fsTer{_to_stop(after, at)}"
    return _inframe(change, before, after)


def _unchanged(change: CodingChange, first: int) -> str:
    """`Arg26=` where codons are replaced one for one, `=` for anything else."""
    codons = change.spliced.codons
    end = min(change.codon + len(change.ref_residues), len(codons))
    return "=" if change.size else f"{_span(codons, change.codon, end, first)}="


def _to_stop(residues: str, at: int) -> str:
    """How many residues from `at` on to the stop, which counts; `?` where there is none."""
    return str(len(residues) - at) if residues.endswith(STOP) else "?"


def _inframe(change: CodingChange, before: str, after: str) -> str:
    """Substitution, deletion, duplication, insertion or both of residues."""
    first = change.spliced.first_codon
    if STOP in change.alt_residues and len(after) != len(before) + change.size // 3:
        return _early_stop(change, before)
    at = _shared(before, after)
    end_before, end_after = _without_shared_end(before, after, at)
    removed, added = before[at:end_before], after[at:end_after]
    if removed and not added:
        return f"{_span(before, at, end_before, first)}del"
    if added and not removed:
        return _insertion(before, at, added, first)
    if len(removed) == len(added) == 1:
        return f"{_residue(before, at, first)}{THREE_LETTERS[added]}"
    return f"{_span(before, at, end_before, first)}delins{_letters(added)}"


def _early_stop(change: CodingChange, before: str) -> str:
    """Codons replaced by some that hold a stop; what is behind it is not said to be deleted."""
    first = change.spliced.first_codon
    removed = before[change.codon : change.codon + len(change.ref_residues)]
    added = up_to_stop(change.alt_residues)
    shared = _shared(removed, added)
    at = change.codon + shared
    removed, added = removed[shared:], added[shared:]
    if not removed:
        return f"{_flanks(before, at, first)}ins{_letters(added)}"
    return f"{_span(before, at, at + len(removed), first)}delins{_letters(added)}"


def _insertion(before: str, at: int, added: str, first: int) -> str:
    if at >= len(added) and before[at - len(added) : at] == added:
        return f"{_span(before, at - len(added), at, first)}dup"
    return f"{_flanks(before, at, first)}ins{_letters(added)}"


def _shared(one: str, other: str) -> int:
    """How many residues both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _without_shared_end(before: str, after: str, at: int) -> tuple[int, int]:
    """Where what differs ends in both, given that it begins at `at`."""
    most = min(len(before), len(after)) - at
    shared = min(_shared(before[::-1], after[::-1]), most)
    return len(before) - shared, len(after) - shared


def _residue(residues: str, at: int, first: int) -> str:
    return f"{THREE_LETTERS[residues[at]]}{at + first}"


def _span(residues: str, start: int, end: int, first: int) -> str:
    if end - start == 1:
        return _residue(residues, start, first)
    return f"{_residue(residues, start, first)}_{_residue(residues, end - 1, first)}"


def _flanks(residues: str, at: int, first: int) -> str:
    """The residues between which something is inserted before index `at`."""
    return f"{_residue(residues, at - 1, first)}_{_residue(residues, at, first)}"


def _letters(residues: str) -> str:
    return "".join(THREE_LETTERS[residue] for residue in residues)
