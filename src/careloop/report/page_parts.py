"""What the pages of images have in common: templates, pictures as data URIs, figures, units and findings in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from careloop.imaging.finding import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNITS = {"[hnsf'U]": "HU", "[hnsf'U]2": "HU²", "1": "", "cm2": "cm²"}
VERDICTS = {"noted": "noted, nothing changed", "handled": "put right", "refused": "refused"}
PNG = b"\x89PNG\r\n\x1a\n"
Row = dict[str, Any]


@lru_cache(maxsize=8)
def template(name: str) -> Template:
    """A template of this room; every text from outside is escaped, and a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("careloop.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name)


def png_base64(picture: NDArray[np.uint8], *, palette: NDArray[np.uint8] | None = None) -> str:
    """A picture (rows, columns) or (rows, columns, 3) as PNG in base 64; `palette` (n, 3) gives grey levels colours."""
    from PIL import Image

    file, image = io.BytesIO(), Image.fromarray(picture)
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(file, format="png")
    return base64.b64encode(file.getvalue()).decode()


def finding_rows(findings: Sequence[Finding]) -> list[Row]:
    """A row a finding, with its verdict in plain words."""
    return [
        {"check": f.check, "verdict": f.verdict, "words": VERDICTS[f.verdict], "message": f.message} for f in findings
    ]


def unit_words(unit: str, otherwise: str) -> str:
    """The unit as people write it, `otherwise` where intensities have none."""
    return UNITS.get(unit, unit) or otherwise


def figure(value: float | None) -> str:
    """Four figures at most, without an exponent where that is readable."""
    if value is None or not np.isfinite(value):
        return "none"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:.3e}"
