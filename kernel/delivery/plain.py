"""The plain text of an HTML body, for mail programs that show none of it. Text alone: no tables, no styles."""

from __future__ import annotations

import re
from html.parser import HTMLParser

# With an empty line around them, and on lines of their own.
_APART = frozenset(("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote"))
_BLOCKS = _APART | frozenset((
    "address", "article", "aside", "center", "dd", "div", "dl", "dt", "fieldset", "footer", "form", "header", "main", "nav",
    "pre", "section", "tr",
))  # fmt: skip
_UNSEEN = frozenset(("script", "style", "template", "title"))
_SPACE = " \t\r\n\f"


def text_of(body: str) -> str:
    """What `body`, HTML, says: links with where they lead, list items with a dash, pictures by their description."""
    reader = _Reader()
    reader.feed(body)
    reader.close()
    lines = "".join(reader.written).split("\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.strip(_SPACE) for line in lines)).strip()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.written: list[str] = []
        self._unseen = 0
        self._links: list[tuple[str, int]] = []  # where each leads, and where its text begins

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag == "br":
            self.written.append("\n")
        elif tag == "hr":
            self.written.append("\n----\n")
        elif tag == "li":
            self.written.append("\n- ")
        elif tag in ("td", "th"):
            self._write(" ")
        elif tag == "img" and not self._unseen:
            self._write(given.get("alt", ""))
        elif tag == "a":
            self._links.append((given.get("href", "").strip(), len(self.written)))
        else:
            self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(self._unseen - 1, 0)
        elif tag == "a" and self._links:
            leads_to, begun = self._links.pop()
            said = "".join(self.written[begun:]).strip(_SPACE)
            if leads_to and not leads_to.startswith("#") and leads_to.removeprefix("mailto:") != said:
                self.written.append(f" ({leads_to})" if said else leads_to)
        else:
            self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._write(data)

    def _write(self, text: str) -> None:
        """As a browser does: any run of white space is one space, and none begins a line."""
        said = re.sub(f"[{_SPACE}]+", " ", text)
        if said.startswith(" ") and (not self.written or self.written[-1].endswith((" ", "\n"))):
            said = said[1:]
        if said:
            self.written.append(said)

    def _break(self, tag: str) -> None:
        is_new_line = not self.written or self.written[-1].endswith("\n")
        if tag in _APART:
            self.written.append("\n\n")
        elif tag in _BLOCKS and not is_new_line:
            self.written.append("\n")
