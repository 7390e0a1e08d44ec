"""A disputed month, whole: metered in every state, closed, invoiced, exported, checked by a stranger, and tampered with.

The invoice is computed here once more, from the rows of the file and the price list alone.
"""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import close, dispute, recovery, verify
from kernel.usage.plans import Tier
from tests.integration.usage import closing
from tests.integration.usage.capturing import event
from tests.integration.usage.closing import JANUARY, MARCH, Closer

ODD = ["=1+1", 'a,"b"\nc', "é😀\t", "\\n", "", "'x", "x" * 4096, "-1", "a\0b"]
INCLUDED, TIER, LIMIT_TIMES = 20, 35, Decimal(3)
PER_1K, BEYOND = Decimal("1234.5"), Decimal("987.25")


@pytest.fixture(scope="module")
def disputed(module_database_url: str) -> Iterator[Closer]:
    """A closed January of 80 events in every state, of which 60 are billable."""
    engine = sa.create_engine(module_database_url)
    made = closing.closer(engine)
    made.soft(
        INCLUDED, hard_cap_multiplier=LIMIT_TIMES, base_price=Decimal("49.99"), tiers=(Tier(TIER, PER_1K),),
        overage_price_per_1k=BEYOND, currency="EUR",
    )  # fmt: skip

    def away(*_: object) -> None:
        raise ConnectionError

    def some(first: int, last: int) -> list:
        return [
            event(made.site, f"k{n:03}", label=ODD[n % len(ODD)], category="c", at=JANUARY)
            for n in range(first, last)
        ]

    made.capture(*some(0, 5), publisher=away)
    recovery.work(engine, "worker", lambda: JANUARY + timedelta(minutes=1))
    made.capture(*some(5, 10), publisher=away)
    made.capture(*some(8, 80))
    made.closed()
    yield made
    engine.dispose()


def _export(closer: Closer, folder: Path, month: str = "2026-01") -> dispute.Pack:
    return dispute.export(
        closer.engine, closer.tenant_id, closer.site.id, month, folder, actor="Ann", at=MARCH
    )


def _strangers_word(pack: dispute.Pack, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(pack.program), str(pack.file), *arguments],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def test_the_invoice_follows_to_the_cent_from_the_rows_of_the_file(disputed: Closer, tmp_path: Path) -> None:
    pack = _export(disputed, tmp_path)
    with pack.file.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    assert {row["billing_state"] for row in rows} == {each.decode() for each in verify.STATES}
    billable = sum(row["billable"] == "true" for row in rows)
    assert billable == INCLUDED * LIMIT_TIMES
    expected = [
        ("base", "2026-01", 1, Decimal("49.99")),
        ("included", "2026-01", INCLUDED, Decimal("0.00")),
        ("tier", "2026-01", TIER - INCLUDED, _cents((TIER - INCLUDED) * PER_1K / 1000)),
        ("overage", "2026-01", billable - TIER, _cents((billable - TIER) * BEYOND / 1000)),
    ]
    assert disputed.lines() == expected
    told = json.loads(pack.manifest.read_bytes())["invoice"]
    assert [
        (each["kind"], each["of_year_month"], each["quantity"], Decimal(each["amount"]))
        for each in told["lines"]
    ] == expected
    assert Decimal(told["total"]) == sum(amount for *_, amount in expected)
    word = _strangers_word(pack, tmp_path, "--snapshot", disputed.snapshots()[0].hash, "--event", "k007")
    assert word.returncode == 0, word.stdout + word.stderr


def test_a_correction_is_on_the_next_invoice_and_in_its_pack(module_closer: Closer, tmp_path: Path) -> None:
    closer = module_closer
    closer.approve(closer.ask(-1))
    closer.recount(MARCH)
    closer.close_month("2026-02", at=MARCH)
    ((_, _, _, base), (kind, month, quantity, amount)) = closer.lines("2026-02")
    assert (kind, month, quantity, amount) == ("adjustment", "2026-01", -1, Decimal("-1000.00"))
    pack = _export(closer, tmp_path, "2026-02")
    invoice = json.loads(pack.manifest.read_bytes())["invoice"]
    assert Decimal(invoice["total"]) == base + amount
    word = _strangers_word(pack, tmp_path)
    assert word.returncode == 0, word.stdout + word.stderr


@pytest.fixture
def module_closer(module_database_url: str) -> Iterator[Closer]:
    """A closed January of three events that cost a thousand each beyond the first."""
    engine = sa.create_engine(module_database_url)
    made = closing.closer(engine)
    made.soft(
        1, hard_cap_multiplier=Decimal(9), overage_price_per_1k=Decimal(10**6), base_price=Decimal(2000)
    )
    made.closed("a", "b", "c")
    yield made
    engine.dispose()


def _one_byte_changes(pack: dispute.Pack, number: int, seed: int) -> int:
    """How many of so many changes of one byte, in either file, the verifier found."""
    chance, found = random.Random(seed), 0
    intact = {file: file.read_bytes() for file in (pack.file, pack.manifest)}
    for _ in range(number):
        file = chance.choice([*intact])
        changed = bytearray(intact[file])
        at = chance.randrange(len(changed))
        changed[at] = (changed[at] + chance.randrange(1, 256)) % 256
        file.write_bytes(changed)
        found += bool(verify.verify(pack.file).findings)
        file.write_bytes(intact[file])
    assert not verify.verify(pack.file).findings
    return found


def test_every_changed_byte_of_an_export_is_found(disputed: Closer, tmp_path: Path) -> None:
    assert _one_byte_changes(_export(disputed, tmp_path), 400, seed=1) == 400


@pytest.mark.slow
def test_every_one_of_ten_thousand_changed_bytes_of_an_export_is_found(
    disputed: Closer, tmp_path: Path
) -> None:
    assert _one_byte_changes(_export(disputed, tmp_path), 10_000, seed=2) == 10_000


# Of whom the guards cannot stop: a superuser that switches them off. It is told afterwards.
LEDGER = [
    "update usage.ingest_idempotency set billable = false, billing_state = 'REJECTED_QUOTA' where idempotency_key = 'b'",
    "update usage.ingest_idempotency set billing_state = 'ACCEPTED' where idempotency_key = 'b'",
    "update usage.ingest_idempotency set created_at = created_at - interval '1 microsecond' where idempotency_key = 'b'",
    "update usage.ingest_idempotency set event_label = 'other' where idempotency_key = 'b'",
    "update usage.ingest_idempotency set idempotency_key = 'z' where idempotency_key = 'b'",
    "delete from usage.ingest_idempotency where idempotency_key = 'c'",
]
SNAPSHOT = [
    "update usage.invoice_snapshot set event_count = event_count - 1, snapshot_hash = repeat('0', 64) where year_month = '2026-01'",
    "update usage.invoice_snapshot set merkle_root = repeat('0', 64) where year_month = '2026-01'",
    "update usage.invoice_snapshot set plan = jsonb_set(plan::jsonb, '{base_price}', '\"1\"') where year_month = '2026-01'",
    "update usage.invoice_snapshot set generated_by = 'somebody' where year_month = '2026-01'",
    "delete from usage.invoice_snapshot where year_month = '2026-01'",
]


def _with_guards_off(closer: Closer, statement: str) -> int:
    with closer.engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        return connection.execute(
            sa.text(f"{statement} and tenant_id = :tenant_id"), {"tenant_id": closer.tenant_id}
        ).rowcount


@pytest.mark.parametrize("statement", LEDGER)
def test_what_is_changed_in_a_closed_month_with_every_guard_off_is_found(
    module_closer: Closer, tmp_path: Path, statement: str
) -> None:
    """The file no longer leads to the snapshot, which stands on the invoice."""
    invoiced = module_closer.snapshots()[0].hash
    assert _with_guards_off(module_closer, statement) == 1
    try:
        pack = _export(module_closer, tmp_path)
    except RefusedError:
        return
    word = _strangers_word(pack, tmp_path, "--snapshot", invoiced)
    assert word.returncode != 0, word.stdout


@pytest.mark.parametrize("statement", SNAPSHOT)
def test_a_snapshot_that_is_changed_with_every_guard_off_is_found(
    module_closer: Closer, statement: str
) -> None:
    """It is not what its hash says, or the next one does not follow from it."""
    closer = module_closer
    closer.close_month("2026-02", at=MARCH)
    assert _with_guards_off(closer, statement) == 1
    with closer.engine.begin() as connection:
        assert close.broken_chain(connection, closer.tenant_id) is not None
