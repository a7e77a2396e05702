"""A page as its tests read it: its words, its tags, and what it would load."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """The text of a page without styles and scripts, its tags, and the addresses in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["style"], ["script"]):
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        """Words with one space between them."""
        return " ".join(" ".join(word for word in self.words if word).split())


def loaded_from_outside(html: str) -> list[str]:
    """Addresses that a browser would ask for: of elements, styles and scripts; names of XML vocabularies are none."""
    plain = re.sub(r"""(xmlns(:\w+)?|rdf:\w+)=["'][^"']*["']""", "", html)
    elements = [value for value in Page(html).loads if not value.startswith(("data:image/png;base64,", "#"))]
    return elements + re.findall(r"https?://[^\s\"'<]+|@import|url\((?!#)[^)]*\)|fetch\(|XMLHttpRequest", plain)
