"""A test goes to addresses of the tenant's own and to nobody else, counts nowhere, and is in the audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from kernel.delivery import audit, control, setup, trial, views
from kernel.delivery.providers.base import Capabilities, Message, Outcome, rejected
from kernel.errors import RefusedError
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company, no_problems

SEED = "qa@acme.example"
COUNTED = ("campaign_runs", "run_recipients", "job_queue", "channel_outbox", "attempts", "usage_entries")  # fmt: skip


@dataclass
class Box:
    """A provider that keeps what it was given; `fails` is what it answers or raises."""

    capabilities: Capabilities = field(default_factory=Capabilities)
    kept: list[tuple[str, Message]] = field(default_factory=list)
    fails: Outcome | Exception | None = None
    is_closed: bool = False

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        self.kept += [(key, message) for message in messages]
        if isinstance(self.fails, Exception):
            raise self.fails
        return [self.fails or Outcome("accepted", message_id=message.reference) for message in messages]

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def acme(world: World) -> Company:
    made = company(world.engine, world.ledger)
    made.call(setup.add_seeds, [SEED, "Boss@acme.example"], channel="email", actor="olga")
    return made


@pytest.fixture
def box() -> Box:
    return Box()


def tried(acme: Company, box: Box, content_id: UUID, *to: str, **named: Any) -> list[trial.Tested]:
    given = {
        "provider_of": lambda _: box,
        "problems": no_problems,
        "actor": "max",
        "now": lambda: datetime.now(UTC),
    }
    return trial.send(acme.engine, acme.tenant_id, content_id, to or (SEED,), **(given | named))


def test_a_test_is_the_content_for_a_made_up_person_marked_as_a_test(acme: Company, box: Box) -> None:
    content_id = acme.write(
        subject="Hi {{first_name|you}}", body="<p>{{company|yours}} {{unsubscribe_url}}</p>"
    )
    (told,) = tried(acme, box, content_id)
    ((key, message),) = box.kept
    assert (message.subject, message.address, message.sender) == ("[Test] Hi Sam", SEED, "a@x.co")
    assert message.body == f"<p>Sample Company https://x.co/u?r={message.reference}</p>"
    assert message.plain_body == f"Sample Company https://x.co/u?r={message.reference}"
    assert (told.address, told.outcome.state, told.reference) == (SEED, "accepted", message.reference)
    assert (key, box.is_closed) == (f"rot1-{message.reference}", True)


def test_a_text_message_is_marked_in_its_text(world: World, box: Box) -> None:
    acme = company(world.engine, world.ledger, [{"phone": "+15550102030"}], channel="sms")
    acme.call(setup.add_seeds, ["+1 555 010 2099"], channel="sms", actor="olga")
    tried(acme, box, acme.write(subject="", body="Spring"), "+15550102099")
    assert (box.kept[0][1].body, box.kept[0][1].subject) == ("[Test] Spring", "")


def test_a_test_counts_in_no_run_and_changes_none(acme: Company, box: Box) -> None:
    acme.ready()
    run_id = acme.launch().run_id
    before = [acme.pinned(f"select * from delivery.{name} order by 1, 2, 3") for name in COUNTED]
    run = acme.call(views.drawer, run_id).run
    tried(acme, box, run.content_id)
    assert [acme.pinned(f"select * from delivery.{name} order by 1, 2, 3") for name in COUNTED] == before
    assert acme.call(views.drawer, run_id).run == run


def test_what_is_tested_of_a_run_is_what_the_run_sends_not_what_was_written_since(acme: Company, box: Box) -> None:  # fmt: skip
    acme.ready()
    run_id = acme.launch().run_id
    acme.write(body="Newer {{unsubscribe_url}}")
    tried(acme, box, acme.call(views.drawer, run_id).run.content_id)
    assert box.kept[0][1].body.startswith("Spring")


def test_each_address_gets_one_message_and_is_told_of_alone(acme: Company, box: Box) -> None:
    told = tried(acme, box, acme.write(), "BOSS@acme.example", SEED, " qa@acme.example")
    assert [each.address for each in told] == ["boss@acme.example", SEED]
    assert len({key for key, _ in box.kept}) == 2


@pytest.mark.parametrize("address", ["ann@x.co", "stranger@acme.example"], ids=["a contact", "a stranger"])
def test_an_address_that_is_not_on_the_list_is_refused_and_nobody_gets_anything(
    acme: Company, box: Box, address: str
) -> None:
    with pytest.raises(RefusedError, match=f"{address} is not on the seed list of email"):
        tried(acme, box, acme.write(), SEED, address)
    assert (box.kept, acme.pinned("select from delivery.audit_events")) == ([], [])


def test_no_contact_comes_onto_the_list(acme: Company) -> None:
    with pytest.raises(RefusedError, match=r"ann@x\.co is a contact"):
        acme.call(setup.add_seeds, ["new@acme.example", " ANN@x.co"], channel="email", actor="olga")
    assert [row.address for row in acme.call(views.seeds)] == ["boss@acme.example", SEED]


def test_a_seed_that_became_a_contact_gets_no_test_any_more(acme: Company, box: Box) -> None:
    content_id = acme.write()
    acme.pinned("insert into spine.spine_contacts (tenant_id, email) values (:of, 'QA@acme.example')", of=acme.tenant_id)  # fmt: skip
    with pytest.raises(RefusedError, match="is a contact of the tenant by now"):
        tried(acme, box, content_id)
    assert box.kept == []


def test_what_cannot_be_sent_to_is_no_seed(acme: Company) -> None:
    with pytest.raises(RefusedError, match="nobody is no address of email"):
        acme.call(setup.add_seeds, ["nobody"], channel="email", actor="olga")


def test_a_seed_is_added_once_and_taken_away_again(acme: Company, box: Box) -> None:
    assert acme.call(setup.add_seeds, [SEED.upper()], channel="email", actor="olga") == 0
    assert acme.call(setup.remove_seeds, [SEED.upper()], channel="email") == 1
    with pytest.raises(RefusedError, match="is not on the seed list"):
        tried(acme, box, acme.write())


def _suspended(acme: Company) -> None:
    acme.pinned("update spine.tenants set status = 'suspended'")


def _stopped(acme: Company) -> None:
    acme.call(control.stop_account, "mail", actor="ann", reason="bounces", at=datetime.now(UTC))


def _suppressed(acme: Company) -> None:
    acme.call(setup.suppress, [SEED], reason="opt_out", source="test")


@pytest.mark.parametrize(("spoil", "why"), [
    (_suspended, "the tenant is suspended"), (_stopped, "account mail was stopped: bounces"),
    (_suppressed, "is suppressed: nothing goes to it"),
])  # fmt: skip
def test_what_stops_a_campaign_stops_a_test(acme: Company, box: Box, spoil: Any, why: str) -> None:
    content_id = acme.write()
    spoil(acme)
    with pytest.raises(RefusedError, match=why):
        tried(acme, box, content_id)
    assert box.kept == []


def test_an_account_that_cannot_be_used_sends_no_test(acme: Company, box: Box) -> None:
    with pytest.raises(RefusedError, match="the secret is not there"):
        tried(acme, box, acme.write(), problems=lambda _: ["the secret is not there"])
    assert box.kept == []


def test_the_audit_has_what_went_to_whom_before_and_what_came_of_it_after(acme: Company, box: Box) -> None:
    content_id = acme.write()
    seen_at_the_call: list[str] = []

    class Watching(Box):
        def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
            seen_at_the_call.extend(
                row.event for row in acme.pinned("select event from delivery.audit_events")
            )
            return super().send(messages, key)

    tried(acme, Watching(), content_id)
    box.fails = rejected("gone", "no such box")
    tried(acme, box, content_id)
    rows = acme.pinned("select chain, event, actor, detail from delivery.audit_events order by number")
    assert seen_at_the_call == ["test_begun"]
    assert [(row.chain, row.event, row.actor) for row in rows] == [
        (acme.campaign_id, event, "max") for event in ("test_begun", "test_ended") * 2
    ]
    assert rows[0].detail["content"] == str(content_id)
    assert [row.detail["messages"][0]["address"] for row in rows] == [SEED] * 4
    assert [rows[place].detail["messages"][0]["state"] for place in (1, 3)] == ["accepted", "rejected"]
    assert acme.call(audit.broken) == {}


def test_a_provider_that_breaks_leaves_an_unknown_outcome_in_the_audit(acme: Company) -> None:
    broken = Box(fails=ValueError("what"))
    (told,) = tried(acme, broken, acme.write())
    assert (told.outcome.state, told.outcome.error, broken.is_closed) == ("unknown", "ValueError: what", True)


def test_another_tenants_seeds_and_contents_are_none_of_ours(acme: Company, world: World, box: Box) -> None:
    other = company(world.engine, world.ledger)
    with pytest.raises(RefusedError, match="is not on the seed list"):
        tried(other, box, other.write())
    assert other.call(views.seeds) == []


# How many, and to whom ------------------------------------------------------------------------------------------------


def test_a_test_takes_of_the_caps_as_a_message_does(acme: Company, box: Box) -> None:
    content_id = acme.write()
    acme.call(setup.policy, "email", hourly_cap=3)
    tried(acme, box, content_id, SEED, "boss@acme.example")
    with pytest.raises(RefusedError, match="the caps of email leave 1 of 2: send fewer"):
        tried(acme, box, content_id, SEED, "boss@acme.example")
    tried(acme, box, content_id)
    with pytest.raises(RefusedError, match="leave 0 of 1: wait until"):
        tried(acme, box, content_id)
    assert len(box.kept) == 3
    assert [row.used for row in acme.pinned("select used from delivery.quota_windows")] == [3, 3]


def test_a_cap_that_is_set_later_knows_of_tests(acme: Company, box: Box) -> None:
    content_id = acme.write()
    tried(acme, box, content_id)
    acme.call(setup.policy, "email", daily_cap=1)
    with pytest.raises(RefusedError, match="the caps of email leave 0 of 1"):
        tried(acme, box, content_id)


def test_a_tenant_sends_fifty_tests_a_day(acme: Company, box: Box) -> None:
    content_id = acme.write()
    now = datetime.now(UTC)
    for _ in range(24):
        tried(acme, box, content_id, SEED, "boss@acme.example")
    tried(acme, box, content_id)
    with pytest.raises(RefusedError, match="50 tests may go out in 24 hours, and 1 are left"):
        tried(acme, box, content_id, SEED, "boss@acme.example")
    tried(acme, box, content_id)
    with pytest.raises(RefusedError, match="and 0 are left"):
        tried(acme, box, content_id)
    tried(acme, box, content_id, now=lambda: now + timedelta(days=1, minutes=5))
    assert len(box.kept) == 51


def test_the_seed_list_of_a_channel_takes_twenty(acme: Company) -> None:
    more = [f"qa{number}@acme.example" for number in range(19)]
    with pytest.raises(RefusedError, match="the seed list of email takes 20 addresses"):
        acme.call(setup.add_seeds, more, channel="email", actor="olga")
    assert len(acme.call(views.seeds)) == 2
    assert acme.call(setup.add_seeds, more[1:], channel="email", actor="olga") == 18
    assert acme.call(setup.add_seeds, ["+15550102030"], channel="sms", actor="olga") == 1


@pytest.mark.parametrize(
    "written", ["ann+news@x.co", "ANN+@x.co", "an\u00adn@x.co", "ann\ufe0f@x.co", "a\u2062nn+x@x.co"]
)
def test_a_contacts_mailbox_is_no_seed_however_it_is_written(acme: Company, written: str) -> None:
    with pytest.raises(RefusedError, match="is a contact of the tenant"):
        acme.call(setup.add_seeds, [written], channel="email", actor="olga")


PRICES = {
    "1e12": False,
    "1e130000": False,
    "0.000000001": False,
    "1e-30": False,
    "999999999999.99999999": True,
    "0": True,
}


@pytest.mark.parametrize("price", PRICES)
def test_a_price_is_of_a_length_that_can_be_read(acme: Company, price: str) -> None:
    given = {"channel": "email", "provider": "memory", "sender": "a@x.co", "unit_price": Decimal(price)}
    if PRICES[price]:
        acme.call(setup.account, "priced", **given)
        return
    with pytest.raises(RefusedError, match="at most 12 digits before and 8 after the point"):
        acme.call(setup.account, "priced", **given)
