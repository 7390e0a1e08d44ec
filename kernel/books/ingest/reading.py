"""Which reader a file is for, and what is no statement at all."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from kernel.books.ingest import camt053, csv_file, mt940, ofx
from kernel.books.ingest.mapping import Mapping
from kernel.books.ingest.statement import MEGABYTE, Account, Format, Limits, Statement, StatementError
from kernel.errors import RefusedError

_READERS: dict[Format, Callable[[bytes, Account, Mapping, Limits], Statement]] = {
    "csv": csv_file.read,
    "ofx": ofx.read,
    "camt053": camt053.read,
    "mt940": mt940.read,
}
_SPREADSHEET = "save its table as CSV"
_OTHERS = (
    (b"%PDF", "a PDF document", "download the statement as CSV, OFX, CAMT.053 or MT940"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet or a document", _SPREADSHEET),
    (b"\x89PNG", "an image", "download the statement as CSV, OFX, CAMT.053 or MT940"),
    (b"\xff\xd8\xff", "an image", "download the statement as CSV, OFX, CAMT.053 or MT940"),
    (b"PAR1", "a Parquet file", _SPREADSHEET),
    (b"MZ", "a program", "hand over a statement"),
    (b"\x7fELF", "a program", "hand over a statement"),
)  # fmt: skip
_ENCRYPTED_OFFICE = "EncryptedPackage".encode("utf-16-le")


def read(
    data: bytes, account: Account, mapping: Mapping | None = None, limits: Limits | None = None
) -> Statement:
    """The statement in a file's bytes, by what they begin with unless the mapping names the format.

    Raises StatementError for what cannot be read as a whole.
    """
    mapping, limits = mapping or Mapping(), limits or Limits()
    _refuse_too_large(len(data), limits)
    if data.startswith(b"\x1f\x8b"):
        data = _unpacked(data, limits)
    if not data.strip(b"\0 \t\r\n\xef\xbb\xbf\xff\xfe"):
        raise StatementError("400_INVALID_FILE_FORMAT", "is empty", "download it from the bank again")
    _refuse_other_media(data)
    return _READERS[mapping.format or _format(data)](data, account, mapping, limits)


def bytes_of(path: Path, limits: Limits) -> bytes:
    """Raises StatementError for a file that is too large to be read, and RefusedError for one that cannot be read."""
    try:
        if not path.is_file():
            raise RefusedError(f"{path} is no regular file: name the statement itself")
        _refuse_too_large(path.stat().st_size, limits)
        return path.read_bytes()
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror}") from None


def _refuse_too_large(size: int, limits: Limits) -> None:
    if size > limits.largest_bytes:
        raise StatementError(
            "413_FILE_TOO_LARGE", f"has {size / MEGABYTE:,.1f} MB, and {limits.largest_bytes / MEGABYTE:,.0f} MB are the most",
            "split it by days",
        )  # fmt: skip


def _unpacked(data: bytes, limits: Limits) -> bytes:
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as packed:
            unpacked = packed.read(limits.largest_bytes + 1)
    except (OSError, EOFError, zlib.error):
        raise StatementError(
            "422_PARSE_FAILED", "breaks off or is no gzip file", "transfer it again"
        ) from None
    _refuse_too_large(len(unpacked), limits)
    return unpacked


def _refuse_other_media(data: bytes) -> None:
    if data.startswith(b"PK\x03\x04"):
        if data[6] & 1:
            raise _encrypted("a ZIP archive")
        raise StatementError(
            "400_ZIP_UNSUPPORTED_CONTENTS", "is a ZIP archive or a spreadsheet",
            "unpack it and hand over its files one by one, or save its table as CSV",
        )  # fmt: skip
    if data.startswith(b"%PDF") and b"/Encrypt" in data:
        raise _encrypted("a PDF document")
    if data.startswith(b"\xd0\xcf\x11\xe0") and _ENCRYPTED_OFFICE in data:
        raise _encrypted("a spreadsheet")
    if data.startswith((b"-----BEGIN PGP MESSAGE", b"\x85\x01", b"\x84\x8c")):
        raise _encrypted("a PGP message")
    for begins, what, hint in _OTHERS:
        if data.startswith(begins):
            raise StatementError("415_UNSUPPORTED_MEDIA_TYPE", f"is {what}", hint)


def _encrypted(what: str) -> StatementError:
    return StatementError("422_FILE_ENCRYPTED", f"is {what} that is encrypted", "decrypt it first")


def _format(data: bytes) -> Format:
    # Also of two bytes a letter.
    begin = data[:4000].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if begin.startswith(b"OFXHEADER") or re.search(rb"<\?OFX|<OFX>", begin, re.IGNORECASE):
        return "ofx"
    if begin.startswith(b"<"):
        if re.match(rb"<!doctype html|<html", begin, re.IGNORECASE):
            raise StatementError(
                "400_INVALID_FILE_FORMAT",
                "is a web page, perhaps the bank's login",
                "log in and download it again",
            )
        return "camt053"
    if re.search(rb"^:20:", begin, re.MULTILINE) and re.search(rb"^:(25|60[FM]):", begin, re.MULTILINE):
        return "mt940"
    if begin.count(b"\n") + begin.count(b"\r") == 0 and not re.search(rb"[,;\t|]", begin):
        raise StatementError(
            "400_INVALID_FILE_FORMAT", "is neither a table nor OFX, CAMT.053 or MT940", "hand over a statement",
            evidence=begin[:80].decode("utf-8", "replace"),
        )  # fmt: skip
    return "csv"
