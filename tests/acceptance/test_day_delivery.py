"""The campaigns of `make demo`: sent through real servers by processes of which one is killed, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dagster_project.cli import day_delivery, day_mailing, day_servers
from dagster_project.cli.day_servers import Servers
from kernel import members, tenancy
from kernel.delivery import funnel, invariants
from kernel.delivery.providers import effects
from models.errors import RevenueOsError
from models.spine import spine_contacts
from models.vocabulary import PERSONAS
from samples import team

TENANTS = ("acme-healthy", "borealis-underperforming")  # by mail, and by HTTP
MESSAGES_IN_A_CALL = 2  # by HTTP


@dataclass(frozen=True)
class Lived:
    engine: sa.Engine
    home: Path
    funnels: list[funnel.Funnel]
    recipients: int
    failed: dict[str, int]  # messages of each tenant that its server was ordered to fail at

    def rows(self, query: str) -> list[Any]:
        with self.engine.begin() as connection:
            tenancy.service(connection)
            return list(connection.execute(sa.text(query)).all())

    def taken(self) -> list[effects.Effect]:
        return [each for folder in (self.home / "demo-servers").iterdir() for each in effects.read(folder)]


def contacts(engine: sa.Engine, slug: str, count: int) -> None:
    with engine.begin() as connection:
        tenancy.service(connection)
        tenant_id = tenancy.create(connection, slug, slug, "USD")
        for person in team.members(slug):
            members.add(connection, tenant_id, person["user_id"], person["name"], person["role"])
        rows = [
            {
                "tenant_id": tenant_id, "email": f"person.{number}@mail.example", "persona_tag": PERSONAS[number % len(PERSONAS)],
                "lifecycle_stage": ("lead", "mql", "customer")[number % 3],
            }
            for number in range(count)
        ]  # fmt: skip
        connection.execute(spine_contacts.insert(), rows)


# The small one is killed and taken over like the large one.
@pytest.fixture(scope="module", params=[60, pytest.param(500, marks=pytest.mark.slow)])
def lived(
    request: pytest.FixtureRequest, _create: Any, _migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    engine = sa.create_engine(_create(f"day_of_{request.param}", _migrated))
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(day_mailing, "RECIPIENTS", request.param)
        patch.setattr(day_delivery, "_KILLED_AFTER", request.param * 2 // 3)
        servers = kept(patch)
        for slug in TENANTS:
            contacts(engine, slug, request.param * 2)
        funnels = day_delivery.live(engine, home)
        by_mail, by_http = servers[0].mail.spent.total(), servers[0].http.spent.total() * MESSAGES_IN_A_CALL
        failed = dict(zip(TENANTS, (by_mail, by_http), strict=True))
        yield Lived(engine, home, funnels, request.param, failed)
    engine.dispose()


def kept(patch: pytest.MonkeyPatch) -> list[Servers]:
    """The servers of every day that is lived, which are closed when it is over."""
    made: list[Servers] = []

    @contextmanager
    def serving(*given: Any) -> Iterator[Servers]:
        with day_servers.serving(*given) as servers:
            made.append(servers)
            yield servers

    patch.setattr(day_delivery, "serving", serving)
    return made


def test_everybody_who_agreed_and_stayed_is_accounted_for_once(lived: Lived):
    for each in lived.funnels:
        counts, intended = each.counts, each.drawer.run.intended
        assert counts.open == 0
        assert counts.accepted + counts.rejected + counts.unknown == lived.recipients
        assert counts.intended == intended
        assert {one.reason for one in each.drawer.exclusions} >= {
            "opt_out",
            "no_consent",
            "invalid_address",
        }


def test_what_counts_as_accepted_is_what_the_servers_took(lived: Lived):
    accepted = lived.rows(
        "select tenant_id, address from delivery.channel_outbox where status = 'sent' order by 1, 2"
    )
    unknown = lived.rows("select tenant_id, address from delivery.channel_outbox where status = 'unknown'")
    slugs = dict(lived.rows("select id, slug from spine.tenants"))
    of = {"mail": TENANTS[0], TENANTS[1]: TENANTS[1]}
    taken = Counter((of[each.account], each.address) for each in lived.taken())
    sent = {(slugs[row.tenant_id], row.address) for row in accepted}
    assert max(taken.values()) == 1
    assert sent <= set(taken)
    assert set(taken) - sent <= {(slugs[row.tenant_id], row.address) for row in unknown}


def test_nobody_is_lost_but_by_a_fault_or_the_kill(lived: Lived):
    """How many the killed worker held hangs on how fast the machine is; all others hang on the servers alone."""
    held = in_the_killed_hands(lived)
    not_accepted = lived.rows(
        "select slug, address, error, array(select id from delivery.attempts where item_id = items.id) as attempts"
        " from delivery.channel_outbox as items join spine.tenants on tenants.id = items.tenant_id"
        " where items.status not in ('sent', 'skipped')"
    )
    for slug in TENANTS:
        lost = [
            (row.address, row.error)
            for row in not_accepted
            if row.slug == slug
            and not held & {str(each) for each in row.attempts}
            and "timed out" not in (row.error or "")
        ]
        assert len(lost) <= lived.failed[slug], lost


def in_the_killed_hands(lived: Lived) -> set[str]:
    """The attempts that the first worker began and whose outcome it did not live to write down."""
    told = lived.rows(
        "select actor, event, detail -> 'attempts' as attempts from delivery.audit_events"
        " where event in ('attempts_begun', 'outcomes_recorded') order by at"
    )
    killed = next(row.actor for row in told if row.event == "attempts_begun")
    begun, recorded = (
        {each for row in told if (row.actor, row.event) == (killed, event) for each in row.attempts}
        for event in ("attempts_begun", "outcomes_recorded")
    )
    return begun - recorded


def test_a_killed_worker_left_work_that_another_one_took_over(lived: Lived):
    ((lost, most),) = lived.rows(
        "select count(*) filter (where attempts > 0), max(attempts) from delivery.job_queue"
    )
    assert lost >= 1
    assert most == 1
    workers = lived.rows("select distinct actor from delivery.audit_events where event = 'attempts_begun'")
    assert len(workers) == 2


def test_what_stays_unknown_has_an_open_case(lived: Lived):
    unknown = lived.rows("select id from delivery.channel_outbox where status = 'unknown' order by id")
    assert unknown == lived.rows(
        "select item_id from delivery.reconciliation_cases where resolution is null order by 1"
    )
    assert len(unknown) == sum(len(each.cases) for each in lived.funnels)


def test_no_rule_of_deliveries_is_broken(lived: Lived):
    with lived.engine.begin() as connection:
        assert invariants.check(connection) == []


def test_the_same_day_lived_again_changes_nothing(lived: Lived):
    told = "select count(*), max(n), count(*) filter (where state = 'accepted') from delivery.attempts"
    before, taken = lived.rows(told), lived.taken()
    assert day_delivery.live(lived.engine, lived.home) == lived.funnels
    assert lived.rows(told) == before
    assert lived.taken() == taken
    assert lived.rows("select count(*) from delivery.campaign_runs") == [(2,)]


def test_nothing_is_left_that_could_be_sent_to_servers_that_are_gone(lived: Lived):
    assert lived.rows("select distinct is_connected from delivery.provider_accounts") == [(False,)]


def test_what_does_not_add_up_ends_the_demonstration(lived: Lived, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(funnel, "mismatches", lambda each: [f"{each.tenant}: one too many"])
    with lived.engine.begin() as connection:
        tenancy.service(connection)
        connection.execute(sa.text("update delivery.provider_accounts set is_connected = true"))
    with pytest.raises(RevenueOsError, match="acme-healthy: one too many"):
        day_delivery.live(lived.engine, lived.home)
