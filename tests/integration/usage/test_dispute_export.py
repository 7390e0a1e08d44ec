"""Dispute packs as they are written from the database: that strangers can check them, and who may have them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import audit, close, dispute, evidence, verify
from tests.integration.usage import closing
from tests.integration.usage.capturing import event
from tests.integration.usage.closing import CLOSE_AT, FEBRUARY, JANUARY, MARCH, Closer

ODD = ["=1+1", 'a,"b"\nc', "é😀\t", "\\n", "", "'x", "x" * 4096]


def _export(closer: Closer, folder: Path, month: str = "2026-01", **given) -> dispute.Pack:
    named = {"actor": "Ann", "at": MARCH} | given
    return dispute.export(closer.engine, closer.tenant_id, closer.site.id, month, folder, **named)


@pytest.fixture
def billed(closer: Closer) -> Closer:
    closer.soft(3, hard_cap_multiplier=Decimal(2), overage_price_per_1k=Decimal(1000), base_price=Decimal(5))
    closer.capture(*(event(closer.site, f"k{n}", category="c", label=text) for n, text in enumerate(ODD)))
    return closer


def test_a_stranger_checks_the_pack_with_nothing_but_python(billed: Closer, tmp_path: Path) -> None:
    done = billed.closed()
    pack = _export(billed, tmp_path)
    assert pack.file.name == f"dispute-{billed.site.id}-2026-01.csv"
    assert (pack.rows, pack.snapshot_hash) == (len(ODD), done.hash)
    found = subprocess.run(
        [sys.executable, "-I", pack.program, pack.file, "--snapshot", done.hash, "--event", "k3"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"root  {billed.snapshots()[0].merkle_root}" in found.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        pack.file.name, pack.manifest.name, "verify.py",
    }  # fmt: skip


def test_the_root_of_the_file_is_that_of_the_close(billed: Closer, tmp_path: Path) -> None:
    billed.closed()
    assert _export(billed, tmp_path).merkle_root == billed.snapshots()[0].merkle_root


def test_the_same_pack_is_the_same_bytes(billed: Closer, tmp_path: Path) -> None:
    billed.closed()
    first = _export(billed, tmp_path / "a")
    billed.approve(billed.ask(2))
    second = _export(billed, tmp_path / "b", at=MARCH + timedelta(days=40), actor="Ben")
    assert first.file.read_bytes() == second.file.read_bytes()
    assert first.manifest.read_bytes() == second.manifest.read_bytes()


def test_the_invoice_of_the_pack_is_the_one_that_was_drafted(billed: Closer, tmp_path: Path) -> None:
    _pays(billed)
    for month in ("2026-01", "2026-02"):
        pack = _export(billed, tmp_path, month)
        told = json.loads(pack.manifest.read_bytes())["invoice"]["lines"]
        stored = [(kind, of, quantity, f"{amount:f}") for kind, of, quantity, amount in billed.lines(month)]
        assert [
            (each["kind"], each["of_year_month"], each["quantity"], each["amount"]) for each in told
        ] == stored
        assert verify.verify(pack.file).findings == ()


def _pays(billed: Closer) -> None:
    """Closes January, and a February that pays for a correction of it."""
    billed.closed()
    billed.approve(billed.ask(2))
    billed.recount(MARCH)
    billed.close_month("2026-02", at=MARCH)


def test_an_invented_adjustment_is_not_what_was_invoiced(billed: Closer, tmp_path: Path) -> None:
    _pays(billed)
    pack = _export(billed, tmp_path, "2026-02")
    assert verify.verify(pack.file, snapshot=pack.snapshot_hash).findings == ()
    fields = json.loads(pack.manifest.read_bytes())
    (paid,) = fields["adjustments"]
    fields["adjustments"] = [paid, paid | {"quantity": 7, "told": "late: came when its month was closed"}]
    fields["invoice"] = verify.invoice_of(
        fields["plan"], fields["event_count"], "2026-02", fields["adjustments"]
    )
    fields["digest"] = verify.digest(fields, without="digest")
    pack.manifest.write_bytes(verify.canonical(fields))
    (told,) = verify.verify(pack.file, snapshot=pack.snapshot_hash).findings
    assert told.startswith("the adjustments are not those of the snapshot")


def test_a_snapshot_that_is_older_than_the_hash_of_adjustments_is_what_its_hash_says(
    billed: Closer, tmp_path: Path
) -> None:
    billed.closed()
    given = {"tenant_id": billed.tenant_id}
    with billed.engine.begin() as connection:
        (frozen,) = evidence.snapshots(connection, billed.tenant_id)
        del frozen["adjustments_hash"]
        given["hash"] = verify.digest(frozen, without="hash")
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.execute(
            sa.text(
                "update usage.invoice_snapshot set adjustments_hash = null, hash = :hash where tenant_id = :tenant_id"
            ),
            given,
        )
    with billed.engine.begin() as connection:
        assert close.broken_chain(connection, billed.tenant_id) is None
    pack = _export(billed, tmp_path)
    report = verify.verify(pack.file, snapshot=given["hash"])
    assert (report.findings, "not bound" in " ".join(report.facts)) == ((), True)


def test_a_month_that_is_open_is_exported_as_it_stands(billed: Closer, tmp_path: Path) -> None:
    pack = _export(billed, tmp_path, at=JANUARY)
    assert pack.snapshot_hash is None
    assert "not closed" in " ".join(verify.verify(pack.file).facts)


def test_every_row_is_in_the_pack_billable_or_not(billed: Closer, tmp_path: Path) -> None:
    billed.closed()
    lines = _export(billed, tmp_path).file.read_bytes().splitlines()
    assert sum(b",false,REJECTED_QUOTA," in line for line in lines) == 1
    assert len(lines) == 1 + len(ODD)


@pytest.mark.parametrize(("actor", "why"), [("Max", "no approver or owner"), ("eve", "does not belong")])
def test_who_may_not_gets_no_pack(billed: Closer, tmp_path: Path, actor: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        _export(billed, tmp_path, actor=actor)
    assert list(tmp_path.iterdir()) == []
    assert billed.pinned("select 1 from usage.usage_audit") == []


def test_a_site_of_another_tenant_is_unknown(billed: Closer, usage_engine: sa.Engine, tmp_path: Path) -> None:
    other = closing.closer(usage_engine)
    other.capture("x")
    with pytest.raises(RefusedError, match="had no site"):
        dispute.export(
            usage_engine, billed.tenant_id, other.site.id, "2026-01", tmp_path, actor="Ann", at=FEBRUARY
        )
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_audited_or_is_none(
    billed: Closer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as failing:
        failing.setattr(audit, "append", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _export(billed, tmp_path)
    assert list(tmp_path.iterdir()) == []
    pack = _export(billed, tmp_path)
    (entry,) = billed.pinned("select actor, event, detail from usage.usage_audit")
    assert (entry.actor, entry.event) == (str(billed.people["Ann"]), "dispute_export")
    assert (entry.detail["rows"], entry.detail["sha256"]) == (len(ODD), pack.sha256)


def test_a_pack_is_of_one_moment(billed: Closer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evidence.rows_of

    def rows_of(*given):
        billed.capture(event(billed.site, "z"), at=JANUARY + timedelta(days=1))
        return whole(*given)

    monkeypatch.setattr(evidence, "rows_of", rows_of)
    assert _export(billed, tmp_path, at=JANUARY).rows == len(ODD)


def test_rows_that_left_the_ledger_are_not_exported_as_nothing(billed: Closer, tmp_path: Path) -> None:
    billed.closed()
    billed.pinned(
        "insert into usage.usage_archives (tenant_id, site_id, year_month, place, sha256, row_count, merkle_root)"
        " values (:t, :s, '2026-01', 'the vault', 'x', 1, 'x')",
        t=billed.tenant_id, s=billed.site.id,
    )  # fmt: skip
    with pytest.raises(RefusedError, match="archived at the vault"):
        _export(billed, tmp_path)


def test_a_folder_that_cannot_be_written_is_told(billed: Closer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RefusedError, match="cannot be written"):
        _export(billed, tmp_path / "file", at=CLOSE_AT)
