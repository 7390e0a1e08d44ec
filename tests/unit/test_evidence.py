"""Evidence of a certification: every byte of it is watched, whoever signed it is known, and its ledgers count for themselves."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.settings import settings
from kernel.errors import RefusedError
from quality.certification import signing
from quality.certification.delivery import ledgers, run
from quality.certification.prct import evidence
from quality.certification.prct.checks import Check
from quality.certification.prct.run import Report, components

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = cache(lambda: components(ROOT))
AT = datetime(2026, 7, 1, tzinfo=UTC)
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def item(status: str, *attempts: str, address: str = "a") -> dict[str, Any]:
    tried = [{"id": each} for each in attempts]
    return {"id": f"i{attempts}{status}", "provider": "memory", "status": status, "attempts": tried, "root_run": "r",
            "step": 1, "address_sha256": address}  # fmt: skip


def effect(reference: str) -> dict[str, Any]:
    return {"reference": reference, "account": "x", "key": "k", "worker": "w"}


ROWS = {
    "items": [item("sent", "1"), item("unknown", "2", address="b"), item("failed", "3", address="c")],
    "effects": [effect("1"), effect("2")],
    "events": [],
}
TRUE = {"twice": 0, "untrue": 0, "of_nobody": 0}


def content(key: Path | None = None, found: Any = TRUE, rows: Any = ROWS) -> dict[str, Any]:
    checks = [Check(name, name.split(".")[0], "", 0, 0) for name in run.KNOWN.read_text().split()]
    checks = [check for check in checks if check.id != ledgers.CHECK]
    checks.append(Check(ledgers.CHECK, "whole", "", TRUE, found))
    facts = {
        "certification": "delivery",
        "requirements": run.verdicts(checks),
        "ledgers": ledgers.packed(rows),
    }
    return evidence.of(Report(AT, AT, COMPONENTS(), tuple(checks)), facts, key)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private key and its public one, as openssl writes them."""
    folder = tmp_path_factory.mktemp("keys")
    key = Ed25519PrivateKey.generate()
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(PEM, spki))
    return private, public


def verified(file: Path, *options: object) -> tuple[int, str]:
    told = CliRunner().invoke(app, ["certify", "verify", str(file), *map(str, options)])
    return told.exit_code, told.output


def test_a_flipped_bit_anywhere_is_found(keys: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "e.json"
    evidence.write(content(keys[0]), file)
    whole = file.read_bytes()
    evidence.verify(file)
    ledger = whole.index(b"gzip_base64")
    for place in {*range(0, len(whole), 211), *range(ledger, ledger + 120, 10)}:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(RefusedError):
            evidence.verify(file)


def test_a_signature_over_something_else_is_refused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "e.json"
    other = content(keys[0], rows=ROWS | {"events": [{}]})["signature"]
    evidence.write(content() | {"signature": other}, file)
    with pytest.raises(RefusedError, match="signature of the evidence is wrong"):
        evidence.verify(file)


@pytest.mark.parametrize("y", signing._LOW_ORDER)
@pytest.mark.parametrize("sign", [0, 1 << 255])
def test_a_key_that_signs_anything_is_no_key(y: int, sign: int) -> None:
    for same in (y, y + signing._PRIME):
        if same < 1 << 255:
            key = base64.b64encode((same | sign).to_bytes(32, "little")).decode()
            for nothing in (b"\x01" + bytes(63), (same | sign).to_bytes(32, "little") + bytes(32)):
                value = base64.b64encode(nothing).decode()
                for digest in ("what", "ever", "is", "here", "or", "there", "a", "b"):
                    with pytest.raises(RefusedError, match="signature of the evidence is wrong"):
                        signing.expect({"algorithm": "ed25519", "public_key": key, "value": value}, digest)


def _ledger(lines: bytes, rows: int | None = None, sha256: str | None = None) -> dict[str, Any]:
    return {
        "rows": lines.count(b"\n") if rows is None else rows,
        "sha256": sha256 or hashlib.sha256(lines).hexdigest(),
        "gzip_base64": base64.b64encode(gzip.compress(lines, 1, mtime=0)).decode(),
    }


BAD_LEDGERS = {
    "too long": (_ledger(b" " * ((1 << 26) + 1)), "has more than 67108864 bytes"),
    "too many rows": (_ledger(b"0\n" * ((1 << 20) + 1)), "not the one that was written"),
    "other rows, and no JSON": (_ledger(b"no JSON\n", rows=2), "not the one that was written"),
    "other bytes, and no JSON": (_ledger(b"no JSON\n", sha256="0"), "not the one that was written"),
    "nested too deeply": (_ledger(b"[" * 100_000 + b"\n"), "cannot be read"),
}


@pytest.mark.parametrize("case", BAD_LEDGERS)
def test_a_ledger_is_held_against_what_is_said_of_it_before_it_is_read(case: str) -> None:
    kept, why = BAD_LEDGERS[case]
    evidence_of = content() | {}
    evidence_of["facts"] = evidence_of["facts"] | {"ledgers": {"items": kept}}
    with pytest.raises(RefusedError, match=why):
        ledgers.verify(evidence_of)


@pytest.mark.parametrize(
    "signature", [{}, "x", [], {"algorithm": "ed25519", "public_key": "AA==", "value": "!"}, 7]
)
def test_a_signature_of_another_shape_is_refused(tmp_path: Path, signature: Any) -> None:
    evidence.write(content() | {"signature": signature}, tmp_path / "e.json")
    with pytest.raises(RefusedError, match="signature of the evidence is wrong"):
        evidence.verify(tmp_path / "e.json")


def test_signed_evidence_is_of_the_key_that_is_trusted(keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    evidence.write(content(private), tmp_path / "e.json")
    for trusted in (public, private):
        code, output = verified(tmp_path / "e.json", "--require-signature", "--key", trusted)
        assert (code, "by key" in output) == (0, True), output


def test_evidence_that_nobody_signed_says_so_and_fails_where_a_signature_is_required(
    keys: tuple[Path, Path], tmp_path: Path
) -> None:
    evidence.write(content(), tmp_path / "e.json")
    code, output = verified(tmp_path / "e.json")
    assert (code, "by nobody" in output) == (0, True), output
    code, output = verified(tmp_path / "e.json", "--require-signature", "--key", keys[1])
    assert (code, "is not signed" in output) == (1, True)


def test_evidence_that_somebody_else_signed_is_not_trusted(keys: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    evidence.write(content(other), tmp_path / "e.json")
    code, output = verified(tmp_path / "e.json", "--require-signature", "--key", keys[1])
    assert (code, "signed with another key" in output) == (1, True)


def test_a_signature_is_not_required_of_nobody_in_particular(
    monkeypatch: pytest.MonkeyPatch, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    evidence.write(content(keys[0]), tmp_path / "e.json")
    monkeypatch.setattr(
        "dagster_project.settings.settings", lambda: settings().model_copy(update={"evidence_key": None})
    )
    code, output = verified(tmp_path / "e.json", "--require-signature")
    assert (code, "no key is trusted" in output) == (1, True)


@pytest.mark.parametrize(
    "text", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_that_is_no_key_signs_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "key.pem").write_text(text)
    with pytest.raises(RefusedError, match=r"key\.pem is no private key"):
        content(tmp_path / "key.pem")


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (ROWS, TRUE),
        (ROWS | {"effects": [*ROWS["effects"], effect("1")]}, TRUE | {"twice": 1}),
        (ROWS | {"effects": [effect("1"), effect("3")]}, TRUE | {"untrue": 1}),
        (ROWS | {"effects": []}, TRUE | {"untrue": 1}),
        (ROWS | {"effects": [*ROWS["effects"], effect("9")]}, TRUE | {"of_nobody": 1}),
        # Two items of one run and address.
        (ROWS | {"items": [item("sent", "1"), item("sent", "2")]}, TRUE | {"twice": 1}),
    ],
)
def test_what_the_ledgers_say_is_counted(rows: Any, found: dict[str, int]) -> None:
    assert ledgers.judged(rows) == found
    kept = json.loads(json.dumps(content(found=found, rows=rows)))
    run.verify(kept)


@pytest.mark.parametrize(
    "kept", [None, {}, {"items": {}}, {"items": {"gzip_base64": "AAAA", "sha256": "", "rows": 0}}]
)
def test_ledgers_that_cannot_be_read_are_refused(kept: Any) -> None:
    given = content()
    given["facts"]["ledgers"] = kept
    with pytest.raises(RefusedError, match="ledger"):
        run.verify(given)


def test_a_ledger_of_other_rows_than_its_hash_is_refused() -> None:
    given = content()
    given["facts"]["ledgers"]["items"]["sha256"] = "0" * 64
    with pytest.raises(RefusedError, match="the ledger of items is not the one"):
        run.verify(given)


def test_a_verdict_of_a_requirement_that_does_not_follow_is_refused() -> None:
    given = content(found=TRUE | {"twice": 1}, rows=ROWS | {"effects": [*ROWS["effects"], effect("1")]})
    assert given["facts"]["requirements"]["Q1"] == "FAIL"
    given["facts"]["requirements"]["Q1"] = "PASS"
    with pytest.raises(RefusedError, match="verdicts of the evidence do not follow"):
        run.verify(given)


def test_what_was_not_run_is_neither_passed_nor_failed() -> None:
    checks = [
        Check("live.email", "live", "", "PASS", "NOT_RUN: no account"),
        Check("live.voice", "live", "", "PASS", "FAIL: x"),
    ]
    assert {name: run.verdicts(checks)[name] for name in ("E1", "V1", "Q1")} == {
        "E1": "NOT_RUN", "V1": "FAIL", "Q1": "NOT_RUN",
    }  # fmt: skip
