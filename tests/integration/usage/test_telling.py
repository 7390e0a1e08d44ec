"""What people are told of usage: each thing once, again when nobody took it, and nothing that is not so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from kernel.http import NoAnswer
from kernel.usage import telling
from kernel.usage.tellers import NotToldError
from tests.integration.usage.closing import JANUARY, Closer, closer
from tests.integration.usage.test_recovery import degraded

SOON = JANUARY + timedelta(minutes=5)
ENDED = JANUARY + timedelta(days=2)


@dataclass
class Listener:
    """Somebody who is told; away, nothing reaches them."""

    is_away: bool = False
    refuses: str = "nothing"  # of a subject
    tried: int = 0
    heard: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)

    def tell(self, subject: str, body: str, fields: Mapping[str, Any]) -> None:
        self.tried += 1
        if self.is_away:
            raise ConnectionError("the hook is away")
        if self.refuses in subject:
            raise ValueError("the hook answered 413")
        self.heard.append((subject, body, fields))

    def states(self) -> list[tuple[str, str]]:
        """Of alarms: what began, went on or ended, and how bad it was."""
        return [(each["state"], each["status"]) for _, _, each in self.heard if each["kind"] == "alarm"]


@pytest.fixture
def shop(engine: sa.Engine) -> Closer:
    """All tenants are looked at: each test has a database of its own."""
    return closer(engine)


@pytest.fixture
def people() -> Listener:
    return Listener()


def told(shop: Closer, *people: Listener, at: datetime = SOON) -> telling.Told:
    return telling.tell(shop.engine, people, lambda: at)


def test_a_threshold_is_told_once(shop: Closer, people: Listener) -> None:
    shop.plan(2)
    shop.capture("a", at=JANUARY)
    assert told(shop, people).notices == 1
    shop.capture("b", at=JANUARY)
    assert told(shop, people).notices == 3
    assert told(shop, people).notices == 0
    assert [fields["threshold"] for _, _, fields in people.heard] == [50, 80, 95, 100]
    subject, body, fields = people.heard[0]
    slug = shop.site.public_id
    assert subject == f"Usage, {slug}: {slug} has used 50 % of 2026-01"
    assert body == f"Site {slug} of {slug} has used 1 of 2 events of 2026-01."
    assert (fields["used"], fields["limit"]) == (1, 2)


def test_a_threshold_that_is_a_week_old_is_not_told(shop: Closer, people: Listener) -> None:
    shop.plan(1)
    shop.capture("a", at=JANUARY)
    told(shop, people, at=JANUARY + timedelta(days=8))
    assert [fields["kind"] for _, _, fields in people.heard if fields["kind"] == "threshold"] == []


def test_an_alarm_is_told_when_it_begins_and_when_it_ends(shop: Closer, people: Listener) -> None:
    degraded(shop, "a")
    assert (told(shop, people).alarms, told(shop, people).alarms) == (1, 0)
    shop.pinned("update usage.ingest_fallback_buffer set status = 'RECOVERED'")
    assert told(shop, people, at=ENDED).alarms == 1
    assert told(shop, people, at=ENDED).alarms == 0
    assert people.states() == [("began", "degraded"), ("ended", "degraded")]
    subject, body, fields = people.heard[0]
    assert subject == f"Usage, ingestPublishFailuresLast15m: degraded for {shop.site.public_id}"
    assert "1 captures of the last 15 minutes could not be published" in body
    assert [each["tenant"] for each in fields["tenants"]] == [shop.site.public_id]


def test_an_alarm_that_gets_worse_is_told_again(shop: Closer, people: Listener) -> None:
    for number in range(6):
        degraded(shop, f"key {number}")
        told(shop, people)
    assert people.states() == [("began", "degraded"), ("goes on", "critical")]


def test_an_alarm_that_goes_on_is_told_each_day(shop: Closer, people: Listener) -> None:
    degraded(shop, "a")
    for hours in (1, 24, 26, 49, 51):
        told(shop, people, at=JANUARY + timedelta(hours=hours))
    # Degraded after 15 minutes, critical after 24 hours, and from then on once a day.
    assert people.states() == [("began", "degraded"), ("goes on", "critical"), ("goes on", "critical")]


def test_what_nobody_took_stays_and_is_told_the_next_time(shop: Closer, people: Listener) -> None:
    shop.plan(1)
    degraded(shop, "a")
    people.is_away = True
    done = told(shop, people)
    assert (done.alarms, done.notices, done.failures) == (0, 0, ["the hook is away"])
    assert shop.pinned("select told_at from usage.usage_alarms") == [(None,)]
    people.is_away = False
    done = told(shop, people)
    assert (done.alarms, done.notices, done.failures) == (1, 4, [])


def test_an_alarm_that_is_refused_keeps_nothing_else_from_being_told(shop: Closer, people: Listener) -> None:
    shop.plan(1)
    degraded(shop, "a")
    shop.pinned("update usage.ingest_fallback_buffer set status = 'QUARANTINE'")
    people.refuses = "ingestPublishFailuresLast15m"
    done = told(shop, people)
    assert (done.alarms, done.notices, done.failures) == (1, 4, ["the hook answered 413"])
    assert people.states() == [("began", "alarm")]
    people.refuses = "nothing"
    assert told(shop, people).alarms == 1


def test_a_threshold_that_is_refused_keeps_no_other_from_being_told(shop: Closer, people: Listener) -> None:
    shop.plan(1)
    shop.capture("a", at=JANUARY)
    people.refuses = " 80 %"
    done = told(shop, people)
    assert (done.notices, done.failures) == (3, ["the hook answered 413"])
    assert [fields["threshold"] for _, _, fields in people.heard] == [50, 95, 100]
    people.refuses = "nothing"
    assert told(shop, people).notices == 1


def test_a_way_that_is_away_is_not_tried_for_everything(shop: Closer) -> None:
    for number in range(5):
        shop.plan(number + 1, at=JANUARY + timedelta(seconds=number))
        shop.capture(f"key {number}", at=JANUARY + timedelta(seconds=number))
    away, other = Listener(is_away=True), Listener()
    assert told(shop, away, other).notices == other.tried > 3
    assert away.tried == 2


def test_a_way_that_gave_no_answer_is_away_whatever_it_raises(shop: Closer) -> None:
    class Hook(Listener):
        def tell(self, *message: Any) -> None:
            self.tried += 1
            try:
                raise NoAnswer("the deadline passed")
            except NoAnswer:
                raise NotToldError("the webhook did not answer") from None

    shop.plan(1)
    shop.capture("a", at=JANUARY)
    hook = Hook()
    assert told(shop, hook).failures == ["the webhook did not answer"]
    assert hook.tried == 2


def test_an_alarm_of_many_tenants_names_a_hundred_and_says_how_many_there_are() -> None:
    rows = [
        SimpleNamespace(
            tenant=f"t{n}", status="alarm", told="x", told_status=None, began_at=JANUARY, ended_at=None
        )
        for n in range(250)
    ]
    subject, _, fields = telling._alarm("quarantine", rows)
    assert subject.endswith("t19 and 230 more")
    assert (len(fields["tenants"]), fields["count"]) == (100, 250)


def test_an_alarm_that_was_over_before_anybody_took_it_is_told_all_the_same(
    shop: Closer, people: Listener
) -> None:
    degraded(shop, "a")
    told(shop, Listener(is_away=True))
    shop.pinned("update usage.ingest_fallback_buffer set status = 'RECOVERED'")
    told(shop, people, at=ENDED)
    assert people.states() == [("ended", "degraded")]


def test_a_way_that_is_away_is_named_and_the_other_one_is_enough(shop: Closer, people: Listener) -> None:
    degraded(shop, "a")
    done = told(shop, Listener(is_away=True), people)
    assert (done.alarms, done.failures) == (1, ["the hook is away"])
    assert told(shop, people).alarms == 0


def test_what_was_told_and_not_marked_is_told_again(shop: Closer, people: Listener) -> None:
    class Killed(Listener):
        def tell(self, subject: str, body: str, fields: Mapping[str, Any]) -> None:
            super().tell(subject, body, fields)
            raise KeyboardInterrupt

    shop.plan(2)
    shop.capture("a", at=JANUARY)
    killed = Killed()
    with pytest.raises(KeyboardInterrupt):
        told(shop, killed)
    assert told(shop, people).notices == 1
    assert killed.heard == people.heard


def test_what_somebody_tells_at_the_moment_is_told_by_nobody_else(shop: Closer, people: Listener) -> None:
    class Slow(Listener):
        def tell(self, subject: str, body: str, fields: Mapping[str, Any]) -> None:
            super().tell(subject, body, fields)
            told(shop, people)

    degraded(shop, "a")
    slow = Slow()
    told(shop, slow)
    assert (slow.states(), people.heard) == ([("began", "degraded")], [])


def test_tenants_share_a_message_and_each_has_its_own_alarm(shop: Closer, people: Listener) -> None:
    other = closer(shop.engine)
    degraded(shop, "a")
    told(shop, people)
    degraded(other, "b")
    told(shop, people)
    assert [[each["tenant"] for each in fields["tenants"]] for _, _, fields in people.heard] == [
        [shop.site.public_id], [other.site.public_id],
    ]  # fmt: skip
    for each in (shop, other):
        each.pinned("update usage.ingest_fallback_buffer set status = 'RECOVERED'")
    told(shop, people, at=ENDED)
    ((_, _, fields),) = people.heard[2:]
    assert (fields["state"], len(fields["tenants"])) == ("ended", 2)


def test_a_check_that_cannot_be_made_is_told(shop: Closer, people: Listener) -> None:
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("alter table usage.billing_reconciliation_jobs rename to gone")
    told(shop, people)
    assert set(people.states()) == {("began", "unknown")}


def test_nothing_is_told_where_nothing_happened(shop: Closer, people: Listener) -> None:
    assert told(shop, people) == telling.Told()
    assert people.heard == []
