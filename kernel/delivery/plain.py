"""The plain text of an HTML body, for mail programs that show none of it: what is seen, and nothing that is hidden.

It is read once from its beginning to its end, so that no text however broken takes longer than its length.
"""

from __future__ import annotations

import html
import re

# With an empty line around them, and on lines of their own.
_APART = frozenset(("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote"))
_BLOCKS = _APART | frozenset((
    "address", "article", "aside", "center", "dd", "div", "dl", "dt", "fieldset", "footer", "form", "header", "main", "nav",
    "pre", "section", "tr",
))  # fmt: skip
# Nothing in them is markup but their end.
_RAW = {tag: re.compile(rf"</{tag}(?=[\s/>])", re.I | re.A) for tag in ("script", "style", "title")}
_WITHOUT_END = frozenset((
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
))  # fmt: skip
_HIDING = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|opacity\s*:\s*0(?:\.0*)?\s*(?:!|;|$))", re.I
)  # fmt: skip
_SPACE = " \t\r\n\f"
_MARKUP = re.compile("<[a-zA-Z!?/]")
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
_ATTRIBUTE = re.compile(r"""[\s/]*([^\s/>][^\s/>=]*)(?:\s*=\s*("[^"]*"|'[^']*'|["']|[^\s>]*))?""")
_COMMENT_END = re.compile("--!?>")
# A number that long is no character, and too long to be read as one.
_NO_CHARACTER = re.compile("&#[xX]?[0-9a-fA-F]{100,};?")


def text_of(body: str) -> str:
    """What `body`, HTML, says: links with where they lead, list items with a dash, pictures by their description."""
    reader = _Reader()
    _read(body, reader)
    reader.end_link()
    lines = "".join(reader.written).split("\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.strip(_SPACE) for line in lines)).strip()


def _read(body: str, reader: _Reader) -> None:
    at = 0
    while (markup := _MARKUP.search(body, at)) is not None:
        found = markup.start()
        reader.text(body[at:found])
        if body.startswith("<!--", found):
            at = _end_of_comment(body, found)
        elif (tag := _TAG.match(body, found)) is None:
            at = body.find(">", found) + 1
        else:
            given, at = _attributes(body, tag.end())
            name = tag[2].lower()
            if at and tag[1]:
                reader.end(name)
            elif at and name in _RAW:
                ending = _RAW[name].search(body, at)
                at = ending.start() if ending else 0
            elif at:
                reader.start(name, given)
        # What has no end goes on to the end of the body, and nobody sees it.
        if not at:
            return
    reader.text(body[at:])


def _end_of_comment(body: str, begun: int) -> int:
    for nothing in ("<!-->", "<!--->"):
        if body.startswith(nothing, begun):
            return begun + len(nothing)
    ending = _COMMENT_END.search(body, begun + 4)
    return ending.end() if ending else 0


def _attributes(body: str, at: int) -> tuple[dict[str, str], int]:
    """Those of a tag, and where it ends; 0 when it does not end."""
    given: dict[str, str] = {}
    while (found := _ATTRIBUTE.match(body, at)) is not None:
        value = found[2] or ""
        if value in ("'", '"'):
            return given, 0
        if value[:1] in ("'", '"'):
            value = value[1:-1]
        given.setdefault(found[1].lower(), _characters(value))
        at = found.end()
    return given, body.find(">", at) + 1


def _characters(text: str) -> str:
    return html.unescape(_NO_CHARACTER.sub("\ufffd", text))


class _Reader:
    def __init__(self) -> None:
        self.written: list[str] = []
        self._hidden_by: str | None = None
        self._depth = 0  # of elements of that name
        self._link: tuple[str, int] | None = None  # where it leads, and where its text begins
        self._has_picture = False  # the link

    def start(self, tag: str, given: dict[str, str]) -> None:
        if self._hidden_by == "p" and tag in _BLOCKS:  # which ends a paragraph
            self._hidden_by = None
        if self._hidden_by is not None:
            self._depth += tag == self._hidden_by
        elif tag == "template" or "hidden" in given or _HIDING.search(given.get("style", "")):
            if tag not in _WITHOUT_END:
                self._hidden_by, self._depth = tag, 1
        elif tag == "br":
            self.written.append("\n")
        elif tag == "hr":
            self.written.append("\n----\n")
        elif tag == "li":
            self.written.append("\n- ")
        elif tag in ("td", "th"):
            self._write(" ")
        elif tag == "img":
            self._has_picture = True
            self._write(given.get("alt", ""))
        elif tag == "a":
            self.end_link()
            self._link = (given.get("href", "").strip(), len(self.written))
            self._has_picture = False
        else:
            self._break(tag)

    def end(self, tag: str) -> None:
        if self._hidden_by is not None:
            self._depth -= tag == self._hidden_by
            if not self._depth:
                self._hidden_by = None
        elif tag == "a":
            self.end_link()
        else:
            self._break(tag)

    def end_link(self) -> None:
        if self._link is None:
            return
        leads_to, begun = self._link
        self._link = None
        said = "".join(self.written[begun:]).strip(_SPACE)
        is_seen = said or self._has_picture
        if is_seen and leads_to and not leads_to.startswith("#") and leads_to.removeprefix("mailto:") != said:
            self.written.append(f" ({leads_to})" if said else leads_to)

    def text(self, data: str) -> None:
        if self._hidden_by is None:
            self._write(_characters(data))

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
