"""The picture of the reads behind one call: reference on top, reads as bars with what differs written on them."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from careloop.genome.call.read_pile import PiledRead, ReadPile, Shows

BASE_PX, ROW_PX, LEFT_PX = 11, 14, 124
DEPTH_PX, HEAD_PX = 40, 24
LOW_MAPPING_QUALITY = 20  # below it a read is drawn hollow
SURE_BASE_QUALITY = 10  # below it a base is written in lower case
FORWARD, REVERSE, EDGE = "#cfe0f3", "#f6ddcf", "#5b6470"
BASES = {"A": "#1a7f37", "C": "#0550ae", "G": "#7d4e00", "T": "#b3261e", "N": "#5b6470"}
WORDS: dict[Shows, str] = {
    "alternative": "with the variant",
    "another allele": "with another allele",
    "reference": "with the reference",
    "neither": "not over the site",
}
LONGEST = 12  # bases of an allele that are spelled in the title


def reads_picture(pile: ReadPile, *, said: str = "") -> str:
    """SVG text of a pile of reads; `said` is what the caller made of it, such as `0/1, GQ 99`."""
    width = LEFT_PX + BASE_PX * len(pile.reference) + 8
    parts = [*_title(pile, said), *_depth(pile, 2 * HEAD_PX), *_reference(pile, 2 * HEAD_PX + DEPTH_PX)]
    top = 2 * HEAD_PX + DEPTH_PX + HEAD_PX
    previous: Shows | None = None
    for read in pile.reads:
        if read.shows != previous:
            parts.append(_text(4, top + ROW_PX - 3, f"{pile.counts[read.shows]} {WORDS[read.shows]}", size=10))
            previous = read.shows
        parts += _read(read, pile, top)
        top += ROW_PX
    if pile.left_out:
        parts.append(_text(4, top + ROW_PX, f"{pile.left_out} more reads are not shown", size=11))
        top += ROW_PX
    height = top + HEAD_PX + 4
    parts.append(_legend(height - 8))
    site_x, site_width = _x(pile, pile.variant.start), BASE_PX * len(pile.variant.ref)
    band = (
        f'<rect x="{site_x}" y="{2 * HEAD_PX}" width="{site_width}" height="{height - 3 * HEAD_PX - 4}" '
        'fill="#ffd84d" fill-opacity="0.28"/>'
    )
    label = escape(f"Reads at {_name(pile)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="DejaVu Sans Mono, monospace">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{"".join(parts)}{band}</svg>'
    )


def _name(pile: ReadPile) -> str:
    variant = pile.variant
    return f"{variant.contig}:{variant.start + 1:,} {_short(variant.ref)} > {_short(variant.alt)}"


def _short(bases: str) -> str:
    return bases if len(bases) <= LONGEST else f"{bases[:LONGEST]}... ({len(bases)} bases)"


def _title(pile: ReadPile, said: str) -> Iterator[str]:
    yield _text(4, 16, _name(pile) + (f"   called {said}" if said else ""), size=13, weight="bold")
    counted = ", ".join(f"{n} {WORDS[shows]}" for shows, n in pile.counts.items()) or "no reads"
    yield _text(4, 34, f"Reads: {counted}", size=11)


def _depth(pile: ReadPile, top: int) -> Iterator[str]:
    most = max([*pile.depth, 1])
    yield _text(4, top + 14, "depth", size=10)
    yield _text(4, top + 28, f"0 to {most}", size=10)
    for place, depth in enumerate(pile.depth):
        tall = round((DEPTH_PX - 8) * depth / most, 1)
        x = LEFT_PX + BASE_PX * place
        yield f'<rect x="{x}" y="{top + DEPTH_PX - 4 - tall}" width="{BASE_PX - 1}" height="{tall}" fill="#9aa4b0"/>'


def _reference(pile: ReadPile, top: int) -> Iterator[str]:
    yield _text(4, top + 14, "reference", size=10)
    for place, base in enumerate(pile.reference):
        yield _letter(LEFT_PX + BASE_PX * place, top + 14, base, BASES.get(base, BASES["N"]))


def _read(read: PiledRead, pile: ReadPile, top: int) -> Iterator[str]:
    first, last = max(read.start, pile.start), min(read.end, pile.end)
    left, right = _x(pile, first), _x(pile, last)
    hollow = read.mapping_quality < LOW_MAPPING_QUALITY
    fill = "#ffffff" if hollow else REVERSE if read.reverse else FORWARD
    dashes = ' stroke-dasharray="3 2"' if hollow else ""
    tip = 4
    y, low, middle = top + 1, top + ROW_PX - 2, top + ROW_PX / 2 - 0.5
    if read.reverse:
        shape = f"{left},{middle} {left + tip},{y} {right},{y} {right},{low} {left + tip},{low}"
    else:
        shape = f"{left},{y} {right - tip},{y} {right},{middle} {right - tip},{low} {left},{low}"
    yield f'<polygon points="{shape}" fill="{fill}" stroke="{EDGE}" stroke-width="0.7"{dashes}/>'
    for start, end in read.deletions:
        begin, stop = _x(pile, max(start, first)), _x(pile, min(end, last))
        if stop > begin:
            yield f'<rect x="{begin}" y="{top}" width="{stop - begin}" height="{ROW_PX}" fill="#ffffff"/>'
            yield f'<path d="M{begin} {middle}H{stop}" stroke="#1f2328" stroke-width="2"/>'
    for place, base, quality in read.mismatches:
        if first <= place < last:
            yield _letter(
                _x(pile, place), top + ROW_PX - 4, base if quality >= 10 else base.lower(), BASES.get(base, EDGE)
            )
    for place, bases in read.insertions:
        if first < place < last:
            x = _x(pile, place)
            yield f'<path d="M{x - 3} {y}h6M{x} {y}V{low}M{x - 3} {low}h6" stroke="#6639ba" stroke-width="1.6"/>'
            yield _text(x + 3, top + ROW_PX - 4, f"+{len(bases)}", size=9, fill="#6639ba", weight="bold")


def _legend(y: float) -> str:
    words = (
        "pointed right: forward strand, left: reverse; dashed: may lie elsewhere; "
        "lower case: unsure base; +n: inserted bases"
    )
    return _text(4, y, words, size=10, fill=EDGE)


def _x(pile: ReadPile, place: int) -> int:
    return LEFT_PX + BASE_PX * (place - pile.start)


def _letter(x: float, y: float, base: str, colour: str) -> str:
    return (
        f'<text x="{x + BASE_PX / 2}" y="{y}" font-size="11" font-weight="bold" text-anchor="middle" '
        f'fill="{colour}">{escape(base)}</text>'
    )


def _text(x: float, y: float, words: str, *, size: int, fill: str = "#1f2328", weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-family="DejaVu Sans, sans-serif" font-weight="{weight}" '
        f'fill="{fill}">{escape(words)}</text>'
    )
