"""XML of statements as a tree, without entities and without depths that no statement has."""

from __future__ import annotations

import re
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from kernel.books.ingest.statement import StatementError

_DECLARATION = re.compile(rb"<!\s*(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST)", re.IGNORECASE)
_DEEPEST = 100


def tree(data: bytes) -> Element:
    """The elements of an XML file by their names without namespaces.

    Raises StatementError for one that declares entities or a document type, and for one that is not well formed.
    """
    builder, depth = TreeBuilder(), 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise StatementError(
                "422_MALWARE_SUSPECTED",
                f"nests deeper than {_DEEPEST} elements",
                "download it from the bank again",
            )
        builder.start(name.rpartition("}")[2], attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name.rpartition("}")[2])

    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = lambda *_: _refuse()
    parser.EntityDeclHandler = lambda *_: _refuse()
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise StatementError(
            "422_PARSE_FAILED", f"is no well-formed XML, {expat.errors.messages[error.code]}",
            "download it from the bank again", where=f"line {error.lineno}",
        ) from None  # fmt: skip
    except (LookupError, ValueError) as error:
        # Of its declaration: expat asks Python for a charset that it does not know.
        raise StatementError(
            "422_PARSE_FAILED", f"is written in a charset that XML is not read in, {str(error)[:120]}",
            "download it from the bank in UTF-8", where="line 1",
        ) from None  # fmt: skip
    return builder.close()


def refuse_declarations(data: bytes) -> None:
    """Raises StatementError for a file that declares entities or a document type, in whatever encoding."""
    if _DECLARATION.search(data.replace(b"\0", b"")):
        _refuse()


def _refuse() -> NoReturn:
    raise StatementError(
        "422_MALWARE_SUSPECTED", "declares a document type or entities, which no statement needs",
        "download it from the bank itself",
    )  # fmt: skip


def text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
