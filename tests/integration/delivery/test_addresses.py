"""One rule for addresses: however one is written, a suppression, a consent and a seed mean the person it reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.delivery import invariants, send, setup
from kernel.errors import RefusedError
from models import migrate
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company
from tests.integration.delivery.test_reconcile import Killed

# As a contact has it, and as somebody else wrote the same.
SAME = {
    "case": ("Ann@Example.COM", "ann@example.com"),
    "spaces": (" ann@x.co ", "\tann@x.co\n"),
    "spaces of other alphabets": ("ann@x.co", "\u3000ann@x.co\u00a0"),
    "a space of no width": ("ann@x.co", "\ufeffann@x.co\u200b"),
    "an umlaut in two ways": ("j\u00f6rg@x.co", "jo\u0308rg@x.co"),
    "an upper-case umlaut": ("JÖRG@x.co", "jörg@x.co"),
    "an s that has no upper case": ("straße@x.co", "STRAßE@x.co"),
    "a dotted I": ("İstanbul@x.co", "İSTANBUL@X.CO"),
    "letters of full width": ("ａｎｎ＠ｘ．ｃｏ", "ann@x.co"),
    "a soft hyphen and an accent": ("\u00e9@x.co", "e\u200b\u0301\u00ad@x.co"),
    "a capital that has no letter of its own": ("J\u030c@x.co", "\u01f0@x.co"),
    "a domain as mail servers know it": ("ann@xn--mnchen-3ya.example", "Ann@XN--MNCHEN-3YA.example"),
}
NUMBERS = {
    "signs": ("+1 (555) 010-2030", "+15550102030"),
    "two noughts": ("0044 20 7946 0000", "+442079460000"),
    "a nought in brackets": ("+49 (0)170 1234567", "0049 170 1234567"),
    "a country in brackets": ("(+49) (0)170 1234567", "+491701234567"),
    "a nought that is dialled from abroad": ("+39 (0)6 12345678", "+390612345678"),
    "digits of full width": ("＋１５５５０１０２０３０", "+1.555.010.2030"),
}
OTHER = {
    "ß": ("strasse@x.co", "straße@x.co"),
    "dotless": ("ili@x.co", "ılı@x.co"),
    "dot": ("a.nn@x.co", "ann@x.co"),
}


def suppressed(world: World, channel: str, contact: str, written: str) -> bool:
    column = "email" if channel == "email" else "phone"
    acme = company(world.engine, world.ledger, [{column: contact}], channel=channel)
    acme.call(setup.policy, channel, needs_consent=False)
    acme.call(setup.suppress, [written], reason="opt_out", source="test")
    query = "select excluded_because from delivery.audience(:of, :campaign, (select id from delivery.workspaces), :channel, now())"
    (row,) = acme.pinned(query, of=acme.tenant_id, campaign=acme.campaign_id, channel=channel)
    assert row.excluded_because in (None, "opt_out")
    return row.excluded_because == "opt_out"


@pytest.mark.parametrize("case", SAME)
def test_a_suppression_holds_however_the_address_is_written(world: World, case: str) -> None:
    assert suppressed(world, "email", *SAME[case])


@pytest.mark.parametrize("case", SAME)
def test_and_the_other_way_round(world: World, case: str) -> None:
    assert suppressed(world, "email", *reversed(SAME[case]))


@pytest.mark.parametrize("case", NUMBERS)
def test_a_suppression_holds_however_the_number_is_written(world: World, case: str) -> None:
    assert suppressed(world, "sms", *NUMBERS[case])


@pytest.mark.parametrize("case", OTHER)
def test_addresses_that_mail_servers_tell_apart_stay_apart(world: World, case: str) -> None:
    assert not suppressed(world, "email", *OTHER[case])


def test_a_domain_that_mail_servers_write_otherwise_is_refused_and_not_kept_in_vain(world: World) -> None:
    acme = company(world.engine, world.ledger)
    for keep in (setup.suppress, setup.consent):
        named = (
            {"reason": "opt_out", "source": "test"}
            if keep is setup.suppress
            else {"channel": "email", "basis": "consent", "source": "test", "at": datetime.now(UTC)}
        )
        with pytest.raises(RefusedError, match="give it as xn--"):
            acme.call(keep, ["ann@x.co", "ann@münchen.example"], **named)
    assert acme.pinned("select from delivery.suppressions") == []


def test_addresses_are_kept_once_and_blanks_not_at_all(world: World) -> None:
    acme = company(world.engine, world.ledger)
    written = ["Ann@x.co", "ann@x.co ", "  ", "", "\u200b", "bob@x.co\0"]
    assert acme.call(setup.suppress, written, reason="opt_out", source="test") == 2
    assert acme.call(setup.consent, written, channel="email", basis="consent", source="t", at=datetime.now(UTC)) == 2  # fmt: skip


def test_writing_a_normal_address_again_changes_nothing(world: World) -> None:
    acme = company(world.engine, world.ledger)
    every = [address for pair in [*SAME.values(), *NUMBERS.values(), *OTHER.values()] for address in pair]
    once = acme.call(setup.normal, every)
    assert acme.call(setup.normal, once) == once


ODD = "aAjJTt0+ .-()@<\u0301\u0308\u030c\u0331\u0338\u200b\u200d\u00ad\u2060\ufeff\ufe0f\u115f\u00b4\u0130\u00df\u212b\u03a3\uff0b\uff20\ufb01"


@given(
    st.lists(
        st.text(st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"]), max_size=8), min_size=20
    )
)
@settings(max_examples=60, deadline=None)
def test_however_odd_an_address_is_its_normal_one_is_normal(world: World, written: list[str]) -> None:
    query = "select written, once, delivery.normal_address(once) as twice from unnest(cast(:written as text[])) as written, " \
        "delivery.normal_address(written) as once"  # fmt: skip
    given_ = [each.replace("\0", "") + tail for each in written for tail in ("", "@x.co", "a@x.co")]
    with world.engine.begin() as connection:
        for row in connection.execute(sa.text(query), {"written": given_}):
            assert row.once == row.twice, ascii(row.written)


NONE = {
    "email": [
        "Ann <ann@x.co>",
        "mailto:ann@x.co",
        "ann@x.co.",
        "a@x.co;b@x.co",
        "a@x;b@x",
        "ann\x01@x.co",
        "+15550102030",
    ],
    "sms": ["0170 1234567", "+49CALLME77", "ann@x.co"],
    "all": ["Ann <ann@x.co>", "0170 1234567"],
}


@pytest.mark.parametrize(
    ("channel", "strange"), [(channel, each) for channel in NONE for each in NONE[channel]]
)
def test_what_is_no_address_is_not_kept_in_vain(world: World, channel: str, strange: str) -> None:
    acme = company(world.engine, world.ledger)
    fine = "+15550102030" if channel == "sms" else "fine@x.co"
    with pytest.raises(RefusedError, match=f"is no address of {channel}: write"):
        acme.call(setup.suppress, [fine, strange], reason="opt_out", source="test", channel=channel)
    if channel != "all":
        with pytest.raises(RefusedError, match=f"is no address of {channel}: write"):
            acme.call(
                setup.consent, [strange], channel=channel, basis="consent", source="t", at=datetime.now(UTC)
            )
    assert acme.pinned("select from delivery.suppressions") == []


def test_both_kinds_of_addresses_are_suppressed_on_all_channels(world: World) -> None:
    acme = company(world.engine, world.ledger)
    assert acme.call(setup.suppress, ["ann@x.co", "+49 (0)170 1234567"], reason="opt_out", source="test") == 2


# What was kept under an earlier rule ---------------------------------------------------------------------------------

CALLED = "+49 (0)170 1111111"
GONE, AGREED, WAITS, TWICE = (f"+49 (0)170 {digit * 7}" for digit in "2345")
# Opted out before they were anybody's contact.
STRANGERS = {
    "+44 (0)20 7946 0000": "+442079460000",
    "00351 (0)21 1234567": "+351211234567",
    "+39 (0)6 12345678": "+390612345678",
    "+1 (555) 010-2030": "+15550102030",
}
OWN = "+49 (0)170 9999999"


@pytest.fixture(scope="module")
def upgraded(
    _create: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Company]:
    """At the newest revision, with everything that 0013 had kept: a run whose call nobody knows of, and one that waits."""
    url = _create("addresses_of_0013", "template0")
    migrate.upgrade(url, "0013")
    engine = sa.create_engine(url)
    acme = company(
        engine, World(engine, tmp_path_factory.mktemp("provider")).ledger, [{"phone": CALLED}], channel="sms"
    )
    acme.approve(acme.write(subject="", body="Spring"))
    people = [CALLED, GONE, AGREED, WAITS, TWICE, "+49 170 5555555"]
    acme.call(setup.consent, people, channel="sms", basis="consent", source="form", at=datetime.now(UTC))
    acme.call(setup.add_seeds, [OWN], channel="sms", actor="olga")
    acme.launch(occurrence="called")
    with pytest.raises(Killed):
        send.work(acme.worker(at=killed))
    meet(acme, *people[1:])
    acme.launch(occurrence="waits")
    acme.call(setup.suppress, [GONE, *STRANGERS], reason="opt_out", source="letter", channel="sms")
    assert standing(acme, "+4901704444444") == ("consent", None)
    migrate.upgrade(url)
    yield acme
    engine.dispose()


def killed(point: str) -> None:
    if point == "attempts committed":
        raise Killed


def meet(acme: Company, *numbers: str) -> None:
    for number in numbers:
        acme.pinned(
            "insert into spine.spine_contacts (tenant_id, phone) values (:of, :number)", of=acme.tenant_id, number=number
        )  # fmt: skip


def standing(acme: Company, address: str) -> tuple[str | None, str | None]:
    """The basis of whoever has the address, and why nothing is sent there."""
    query = "select consent_basis, excluded_because from delivery.audience(:of, :campaign, (select id from delivery.workspaces), 'sms', now()) where address = :address"
    (row,) = acme.pinned(query, of=acme.tenant_id, campaign=acme.campaign_id, address=address)
    return row.consent_basis, row.excluded_because


def became(acme: Company, *addresses: str) -> list[str]:
    """What became of the items of the run that waited, under any of the addresses."""
    query = "select coalesce(skip_reason, items.status) from delivery.channel_outbox as items inner join delivery.campaign_runs as runs on runs.id = items.root_run_id where occurrence = 'waits' and address = any(:addresses) order by 1"
    return [row[0] for row in acme.pinned(query, addresses=list(addresses))]


def test_whoever_opted_out_under_the_earlier_rule_is_not_contacted_under_the_new_one(
    upgraded: Company,
) -> None:
    assert standing(upgraded, "+491702222222") == ("consent", "opt_out")
    when = "select count(*), count(distinct created_at) from delivery.suppressions where address like '%1702222222'"
    assert upgraded.pinned(when) == [(2, 1)]


def test_also_if_they_are_met_later(upgraded: Company) -> None:
    meet(upgraded, *STRANGERS)
    assert {standing(upgraded, address)[1] for address in STRANGERS.values()} == {"opt_out"}


def test_whoever_agreed_under_the_earlier_rule_has_agreed(upgraded: Company) -> None:
    assert standing(upgraded, "+491703333333") == ("consent", None)


def test_a_number_for_tests_is_one_still(upgraded: Company) -> None:
    (now,) = upgraded.call(setup.normal, [OWN])
    assert now in {row.address for row in upgraded.pinned("select address from delivery.seeds")}


def test_an_opt_out_of_now_holds_what_was_queued_before(upgraded: Company) -> None:
    upgraded.call(setup.suppress, [WAITS], reason="opt_out", source="letter", channel="sms")
    upgraded.work()
    assert became(upgraded, "+491704444444") == ["opt_out"]
    assert upgraded.effects().keys().isdisjoint({"+491704444444", "+4901704444444"})


def test_two_who_were_queued_and_are_one_person_are_sent_to_once(upgraded: Company) -> None:
    upgraded.work()
    assert became(upgraded, "+491705555555", "+4901705555555") == ["duplicate_address", "sent"]
    assert became(upgraded, "+491703333333") == ["sent"]
    with upgraded.engine.begin() as connection:
        assert invariants.check(connection, upgraded.tenant_id) == []


def test_a_call_under_the_earlier_address_is_not_repeated_under_another(upgraded: Company) -> None:
    query = "select items.status from delivery.channel_outbox as items inner join delivery.campaign_runs as runs on runs.id = items.root_run_id where occurrence = 'called'"
    assert [row.status for row in upgraded.pinned(query)] == ["dispatching"]
    before = upgraded.effects()
    upgraded.pinned("update delivery.attempts set deadline_at = now() where state = 'dispatching'")
    upgraded.settle()
    assert [row.status for row in upgraded.pinned(query)] == ["unknown"]
    assert upgraded.effects() == before
