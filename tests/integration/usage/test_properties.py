"""What holds of usage whatever comes: every request ends as one thing, and a month depends on its ledger alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel import tenancy
from kernel.usage import canonical, gate, merkle, outbox, payloads, recount, verify
from kernel.usage.events import Event
from kernel.usage.keys.payload import InvalidPayloadError
from models import rls, usage
from tests.integration.usage import closing
from tests.integration.usage.capturing import AT, event
from tests.integration.usage.closing import CLOSE_AT, FEBRUARY, JANUARY, Closer
from tests.integration.usage.doors import opened

pytestmark = pytest.mark.usefixtures("either_way")

few = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# Conservation: a request is one thing and no other.

REQUESTS = ("new", "again", "altered", "invalid", "unpublished", "too much")


@few
@given(kinds=st.lists(st.sampled_from(REQUESTS), max_size=25), limit=st.integers(0, 9), soft=st.booleans())
def test_every_request_ends_as_one_thing(
    usage_engine: sa.Engine, kinds: list[str], limit: int, soft: bool
) -> None:
    """Sent = rate limited + invalid + duplicate + refused + accepted + degraded; the last two are what is billed."""
    shop = closing.closer(usage_engine)
    shop.plan(limit, soft_limit_enabled=soft)
    away = False

    def publish(connection: sa.Connection, message: outbox.Message) -> None:
        if away:
            raise ConnectionError
        outbox.write(connection, message)

    sent = 0
    with opened(shop, setting="3", rate=4, publisher=publish) as door:
        for number, kind in enumerate(kinds):
            name = str(number if kind not in ("again", "altered") else number // 2)
            fields = {"event_id": name, "ev": number} if kind == "altered" else {"event_id": name}
            body: Any = 7 if kind == "invalid" else door.event(name, **fields)
            away = kind == "unpublished"
            if kind != "too much":
                # The bucket is full again.
                door.clock.move(seconds=10)
                door.send(body)
                sent += 1
                continue
            door.clock.move(seconds=10)
            door.send([door.event(f"{number}-{each}", event_id=f"{number}-{each}") for each in range(8)])
            door.send(body)
            sent += 9
        told = ("rate_limited", "invalid", "duplicate", "rejected_quota", "allowed", "degraded")
        counted = {name: door.counted(name) for name in told}
        overage = door.counted("overage")
    assert sum(counted.values()) == sent
    assert counted["allowed"] + counted["degraded"] == shop.billable()
    states = Counter(shop.ledger().values())
    assert (states["OVERAGE"], sum(states.values()) - states["REJECTED_QUOTA"]) == (overage, shop.billable())
    shop.agrees()


# A month is what its ledger says: counters, order, repetition and recounts change nothing.


def _frozen(closer: Closer) -> dict[str, Any]:
    """What a close of January must give, computed from the rows of the ledger alone."""
    rows = closer.pinned(
        'select *, plan_id as plan from usage.ingest_idempotency order by idempotency_key collate "C"'
    )
    return {
        "row_count": len(rows),
        "event_count": sum(row.billable for row in rows),
        "overage_count": sum(row.billing_state == "OVERAGE" for row in rows),
        "merkle_root": merkle.root(canonical.line(row._mapping) for row in rows).hex(),
    }


def _wipe(closer: Closer, _sent: list[list[str]]) -> None:
    with closer.engine.begin() as connection:
        connection.execute(
            sa.text("delete from usage.usage_counters where tenant_id = :tenant_id"),
            {"tenant_id": closer.tenant_id},
        )


def _replay(closer: Closer, sent: list[list[str]]) -> None:
    for batch in reversed(sent):
        closer.capture(*reversed(batch), at=JANUARY + timedelta(days=1))


def _count_twice(closer: Closer, _sent: list[list[str]]) -> None:
    closer.recount()
    with closer.engine.begin() as connection:
        recount.queue(connection, closer.tenant_id, "2026-01", at=CLOSE_AT)
    closer.recount()


def _count_at_once(closer: Closer, _sent: list[list[str]]) -> None:
    with closer.engine.begin() as connection:
        recount.queue(connection, closer.tenant_id, "2026-01", at=CLOSE_AT)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: closer.recount(owner=f"worker {number}"), range(3)))


@few
@given(
    sent=st.lists(st.lists(st.integers(0, 30).map(str), min_size=1, max_size=12), min_size=1, max_size=5),
    disturbed=st.lists(st.sampled_from([_wipe, _replay, _count_twice, _count_at_once]), max_size=5),
    limit=st.integers(0, 12),
    soft=st.booleans(),
)
def test_a_month_is_frozen_as_its_ledger_says_whatever_went_on_beside_it(
    usage_engine: sa.Engine,
    sent: list[list[str]],
    disturbed: list[Callable[[Closer, list[list[str]]], None]],
    limit: int,
    soft: bool,
) -> None:
    closer = closing.closer(usage_engine)
    closer.plan(limit, soft_limit_enabled=soft, overage_price_per_1k=Decimal("777.77"), base_price=Decimal(5))
    for batch in sent:
        closer.capture(*batch)
    expected = _frozen(closer)
    for disturb in disturbed:
        disturb(closer, sent)
    closer.recount()
    closer.close_month()
    (snapshot,) = closer.snapshots()
    assert {name: getattr(snapshot, name) for name in expected} == expected
    told = f"{closer.site.id}:2026-01:{expected['event_count']}:{expected['overage_count']}"
    assert snapshot.snapshot_hash == verify.sha256(told.encode()).hexdigest()
    charged = sum(amount for kind, _, _, amount in closer.lines() if kind == "overage")
    over = max(0, expected["event_count"] - limit)
    assert charged == verify.rounded(Decimal("777.77") * over / 1000, "USD")


# A closed month stands.

ROLES = (rls.SERVICE, rls.MEMBER, rls.ANALYST, usage.RECONCILIATION, None)
# Each keeps what the table itself checks: only what guards the month is in its way. Of an open one, the first two stand.
CHANGES = [
    "update usage.ingest_idempotency set billing_state = 'RECOVERED' where idempotency_key = 'a'",
    "update usage.ingest_idempotency set billing_state = 'ACCEPTED', billable = true, billing_reason = 'default_billable',"
    " txid = pg_current_xact_id()::text::bigint where idempotency_key = 'f'",
    "update usage.ingest_idempotency set billing_state = 'REJECTED_QUOTA', billable = false where idempotency_key = 'b'",
    "update usage.ingest_idempotency set billing_state = 'ACCEPTED' where idempotency_key = 'd'",
    "update usage.ingest_idempotency set idempotency_key = 'z' where idempotency_key = 'b'",
    "update usage.ingest_idempotency set created_at = created_at + interval '31 days' where idempotency_key = 'b'",
    "update usage.ingest_idempotency set payload_hash = sha256('z') where idempotency_key = 'b'",
    "update usage.ingest_idempotency set event_label = 'other' where idempotency_key = 'b'",
    "delete from usage.ingest_idempotency where idempotency_key = 'b'",
    "truncate usage.ingest_idempotency",
    "insert into usage.ingest_idempotency (tenant_id, site_id, idempotency_key, created_at, billing_state, billable,"
    " billing_reason, idempotency_version, payload_hash, txid) select tenant_id, site_id, 'more', created_at,"
    " billing_state, billable, billing_reason, idempotency_version, payload_hash, pg_current_xact_id()::text::bigint"
    " from usage.ingest_idempotency where idempotency_key = 'b'",
]
GUARDED = "permission denied|is closed|is a decision|takes no more usage|is refused|stays until"


@pytest.fixture(scope="module")
def closed(usage_engine: sa.Engine) -> Closer:
    """A closed January with rows in every state but RECOVERED."""

    def away(*_: object) -> None:
        raise ConnectionError

    made = closing.closer(usage_engine)
    made.soft(2)
    made.capture("a", publisher=away)
    made.closed("b", "c", "d", "e", "f")
    return made


@pytest.mark.parametrize("role", ROLES)
def test_no_role_changes_the_ledger_of_a_closed_month(closed: Closer, role: str | None) -> None:
    before = closed.pinned("select * from usage.ingest_idempotency order by 3")
    assert len(before) == 6
    for change in CHANGES:
        with closed.engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match=GUARDED):
            connection.execute(
                sa.text("select set_config('role', :role, true), set_config('app.tenant_id', :tenant, true)"),
                {"role": role or "none", "tenant": str(closed.tenant_id)},
            )
            of_tenant = " and tenant_id = :tenant" if "where" in change else ""
            connection.execute(sa.text(change + of_tenant), {"tenant": closed.tenant_id} if of_tenant else {})
            pytest.fail(f"{role or 'the owner'} could: {change}")
    assert closed.pinned("select * from usage.ingest_idempotency order by 3") == before


def test_what_comes_again_after_the_close_changes_nothing_but_adjustments(closed: Closer) -> None:
    before = closed.pinned("select * from usage.ingest_idempotency order by 3")
    told = closed.capture(*(event(closed.site, key, at=FEBRUARY) for key in "abcdef"), at=FEBRUARY)
    assert [each.status for each in told] == ["duplicate"] * 4 + ["rejected_quota"] * 2
    closed.approve(closed.ask(-1))
    assert closed.pinned("select * from usage.ingest_idempotency order by 3") == before


# What is left is let through, and no more.


@few
@given(data=st.data(), together=st.integers(2, 24), taken=st.integers(0, 4))
def test_of_many_at_once_as_many_are_accepted_as_are_left(
    usage_engine: sa.Engine, data: st.DataObject, together: int, taken: int
) -> None:
    left = data.draw(st.integers(0, together + 2))
    shop = closing.closer(usage_engine)
    shop.plan(taken + left)
    shop.capture(*(f"before{number}" for number in range(taken)))
    ready = Barrier(together)

    def one(number: int) -> str:
        ready.wait()
        return shop.capture(f"k{number}")[0].status

    with ThreadPoolExecutor(together) as pool:
        told = Counter(pool.map(one, range(together)))
    assert (told["queued"], told["rejected_quota"]) == (min(left, together), max(0, together - left))
    shop.agrees()


# Clients' clocks.

_TIMES = (
    st.integers(-(10**15), 10**15)
    | st.floats()
    | st.sampled_from(
        ["2026-01-15T10:00:00Z", "2019-01-01T00:00:00", "1768471200000", "nonsense", None, True, [], {}]
    )
    | st.integers(-400_000, 400_000).map(lambda by: payloads.milliseconds(AT) + by)
)


@few
@given(
    sent=st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from(["heartbeat", "page_view", "click", "other"]),
            st.dictionaries(st.sampled_from(["ts", "timestamp", "created_at", "t"]), _TIMES),
            _TIMES,
        ),
        min_size=1,
        max_size=20,
    ),
    version=st.sampled_from(["1", "3"]),
    has_id=st.booleans(),
)
def test_a_clients_clock_changes_no_count_and_no_month(
    usage_engine: sa.Engine,
    sent: list[tuple[int, str, dict[str, Any], Any]],
    version: str,
    has_id: bool,
) -> None:
    shop = closing.closer(usage_engine)
    clock = [AT + timedelta(seconds=3 * number) for number in range(len(sent))]

    def made(with_times: bool) -> list[Event | InvalidPayloadError]:
        values = [
            {"s": shop.site.public_id, "url": f"https://x.co/{name}", "ea": action, "sid": "v"}
            | ({"event_id": f"{name} {action}"} if has_id else {})
            | ((times | {"meta": {"ts": meta}}) if with_times else {})
            for name, action, times, meta in sent
        ]
        return payloads.events(shop.site, values, setting=version, clock=clock)

    told, silent = made(True), made(False)
    assert all(isinstance(each, Event) for each in told)
    assert [each.key for each in told] == [each.key for each in silent]
    for captured in (told, silent):
        with usage_engine.begin() as connection:
            tenancy.service(connection, shop.tenant_id)
            gate.capture(connection, captured, at=clock[-1], actor="gate")
    assert shop.counters() == (len({each.key for each in silent}), 0, 0)
    assert {row[0] for row in shop.pinned("select year_month from usage.ingest_idempotency")} == {"2026-01"}
