"""What is no statement is refused with a code, a sentence and what to do; what would harm is never read."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
from pathlib import Path

import pytest

from kernel.books.ingest import mapping as mappings
from kernel.books.ingest.reading import bytes_of, read
from kernel.books.ingest.statement import Account, Limits, StatementError
from kernel.errors import RefusedError

STATEMENTS = Path(__file__).resolve().parents[2] / "fakes" / "statements"
CSV = b"Date,Description,Amount\n2026-01-05,a,-1.00\n2026-01-06,b,-1.00\n"
_OFX = (STATEMENTS / "checking.ofx").read_bytes()
_CAMT = (STATEMENTS / "giro.xml").read_bytes()
_BOMB = b"<!DOCTYPE lolz [<!ENTITY lol 'lol'><!ENTITY lol2 '&lol;&lol;'>]>"
_READS_FILES = b'<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


def _zip(*, is_encrypted: bool = False) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("a.csv", CSV)
    data = bytearray(packed.getvalue())
    data[6] |= is_encrypted
    return bytes(data)


def _behind_the_declaration(data: bytes, more: bytes) -> bytes:
    return data.replace(b"?>", b"?>" + more, 1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (_zip(), "400_ZIP_UNSUPPORTED_CONTENTS"),
        (b"", "400_INVALID_FILE_FORMAT"),
        (b"hello", "400_INVALID_FILE_FORMAT"),
        (b"<!DOCTYPE html><html>Log in</html>", "400_INVALID_FILE_FORMAT"),
        (CSV + b"2026-01-07,c,-1.00\n" * 20, "413_TOO_MANY_ROWS"),
        (CSV + b"#" * 20_000, "413_FILE_TOO_LARGE"),
        (gzip.compress(CSV + b"#" * 20_000, mtime=0), "413_FILE_TOO_LARGE"),
        (b"%PDF-1.7 text", "415_UNSUPPORTED_MEDIA_TYPE"),
        (b"\x89PNG\r\n", "415_UNSUPPORTED_MEDIA_TYPE"),
        (_zip(is_encrypted=True), "422_FILE_ENCRYPTED"),
        (b"%PDF-1.7 /Encrypt 5 0 R", "422_FILE_ENCRYPTED"),
        (b"-----BEGIN PGP MESSAGE-----\n", "422_FILE_ENCRYPTED"),
        (gzip.compress(CSV, mtime=0)[:-10], "422_PARSE_FAILED"),
        (_OFX.replace(b"</OFX>", b""), "422_PARSE_FAILED"),
        (_OFX.replace(b"VERSION:102", b"VERSION:x"), "422_PARSE_FAILED"),
        (_CAMT[:-40], "422_PARSE_FAILED"),
        (_CAMT.replace(b"UTF-8", b"punycode"), "422_PARSE_FAILED"),
        (_CAMT.replace(b"UTF-8", b"shift_jis"), "422_PARSE_FAILED"),
        (_CAMT.replace(b"UTF-8", b"unheard-of"), "422_PARSE_FAILED"),
        (_OFX.replace(b"</OFX>", b"</BANK></OFX></OFX>"), "422_PARSE_FAILED"),
        (_OFX.replace(b"<OFX>", b" " * 1_000 + b"<BANK>"), "422_PARSE_FAILED"),
        (_OFX.replace(b"<NAME>", b"<NAME><![CDATA[", 1), "422_PARSE_FAILED"),
        (b"a,b,c\n1,2,3\n", "422_TABLE_NOT_FOUND"),
        (_CAMT.replace(b"BkToCstmrStmt", b"BkToCstmrAcctRpt"), "422_TABLE_NOT_FOUND"),
        (_behind_the_declaration(_CAMT, _BOMB), "422_MALWARE_SUSPECTED"),
        (_behind_the_declaration(_CAMT, _READS_FILES), "422_MALWARE_SUSPECTED"),
        (_behind_the_declaration(_CAMT, _BOMB).decode().replace("UTF-8", "UTF-16").encode("utf-16"), "422_MALWARE_SUSPECTED"),
        (_OFX.replace(b"<OFX>", _BOMB + b"<OFX>"), "422_MALWARE_SUSPECTED"),
        (b"<?xml version='1.0'?>" + b"<a>" * 200 + b"</a>" * 200, "422_MALWARE_SUSPECTED"),
        (b"Date,Description\n2026-01-05,a\n", "422_MISSING_REQUIRED_FIELD"),
        (_CAMT.replace(b"<Ccy>EUR</Ccy>", b"<Ccy>SEK</Ccy>"), "422_INVALID_DATA_FORMAT"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_statement_is_refused_with_its_code(data: bytes, code: str) -> None:
    with pytest.raises(StatementError) as error:
        read(data, Account("USD" if b"STMTRS" in data else "EUR"), None, Limits(10_000, 20))
    problem = error.value.problem
    assert problem.code == code
    assert problem.message
    assert problem.hint
    assert "\n" not in str(error.value)


def test_the_limits_are_those_of_the_specification() -> None:
    assert Limits() == Limits(largest_bytes=10_000_000, most_lines=100_000)


def test_a_packed_statement_is_unpacked() -> None:
    assert len(read(gzip.compress(CSV, mtime=0), Account("USD")).lines) == 2


def test_a_folder_is_no_statement(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no regular file"):
        bytes_of(tmp_path, Limits())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("date_ordr: dmy", "did you mean date_order"),
        ("out_is: up", "out_is"),
        ("columns: {post_date: Date, amount: Amount}", "no description"),
        ("columns: {post_date: Date, description: 2, amount: 3}", "not both"),
        ("encoding: utf-99", "is no charset of banks"),
        ("encoding: punycode", "is no charset of banks"),
        ("encoding: unicode_escape", "is no charset of banks"),
        ("encoding: utf-7", "is no charset of banks"),
        ("encoding: base64", "is no charset of banks"),
        ('encoding: "utf-8\\0"', "NUL"),
        ('account: "a\\0b"', "account: 'a.x00b' holds a NUL character"),
        ('account: "\\ud800"', "half of one: remove it"),
        ('columns: {post_date: Date, description: Text, amount: "a\\0"}', "holds a NUL"),
        ("delimiter: '\"'", "ends a field or a line itself"),
        ("account: " + "x" * 100_001, "more than 100,000 bytes"),
        ("currency: XXX", "is no ISO 4217 currency"),
        ("- a", "no valid YAML mapping"),
    ],
)
def test_a_mapping_says_what_is_wrong_with_it(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bank.yaml"
    path.write_text(text)
    with pytest.raises(RefusedError, match=told):
        mappings.load(path)


def test_a_mapping_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "bank.json"
    path.write_text('{"date_order": "dmy", "columns": {"post_date": 1, "description": 2, "amount": 3}}')
    assert mappings.load(path).date_order == "dmy"


@pytest.mark.parametrize(
    "name", ["latin1", "Windows-1252", "UTF8", "ISO_8859-15", "IBM850", "utf_16", "MS932"]
)
def test_a_charset_may_be_called_by_any_name_that_python_knows(name: str) -> None:
    assert mappings.Mapping(encoding=name).encoding == name


def test_charsets_are_known_by_the_names_that_python_gives_them() -> None:
    assert {codecs.lookup(name).name for name in mappings.CHARSETS} == mappings.CHARSETS
