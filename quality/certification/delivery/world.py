"""The world of a certification: tenants with campaigns that are launched, workers that are started, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psutil
import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import contents, launch, setup, views
from kernel.delivery.providers import registry
from models.delivery import campaign_runs, channel_outbox, reconciliation_cases
from models.spine import spine_campaigns, spine_contacts
from models.statements import statements
from quality.certification.delivery import worker
from quality.certification.delivery.provider import Ledger, Mode

if TYPE_CHECKING:
    from quality.certification.delivery.live import Account as Live

_WAIT = 60  # seconds for a process to do what is asked of it


@dataclass(frozen=True, slots=True)
class Launched:
    """A tenant with one campaign on its way to its people, through an account of its own."""

    tenant_id: UUID
    campaign_id: UUID
    run_id: UUID
    account_id: UUID

    @property
    def account(self) -> str:
        return str(self.account_id)


class World:
    """A database that nobody else sends from, and the file of the provider. `prepare` is what `Settings.prepare` is.

    `seed` decides which workers are killed at random; `live` are accounts with real providers by channel.
    """

    def __init__(
        self, engine: sa.Engine, folder: Path, prepare: str | None = None, *, seed: int = 1,
        live: Mapping[str, Live] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.engine = engine
        self.seed, self.live = seed, live
        self.ledger_path = folder / "effects.sqlite"
        self.ledger = Ledger(self.ledger_path)
        self._prepare = prepare
        self.is_broken = prepare is not None
        self._started: list[Any] = []
        # Figures of the scenarios, and what they left, kept with the evidence.
        self.measured: dict[str, Any] = {}
        self.ledgers: dict[str, Any] = {}

    def launch(
        self, slug: str, people: int | Sequence[str] = 3, *, mode: Mode = "keys", batch: int = 1, chunk: int = 100
    ) -> Launched:  # fmt: skip
        """A tenant whose campaign is launched to so many people, or to these addresses."""
        addresses = [f"p{n}@example.com" for n in range(people)] if isinstance(people, int) else list(people)
        account = {
            "channel": "email", "provider": "memory", "sender": "a@example.com",
            "config": {"mode": mode, "batch": batch},
        }  # fmt: skip
        contacts = [{"email": address} for address in addresses]
        return self._launched(slug, contacts, account, chunk, lambda _: [])

    def launch_live(self, account: Live) -> Launched:
        """A tenant that has the account, and whose campaign is launched to the one person who agreed to it."""
        given = account.model_dump(include={"channel", "provider", "sender", "config", "secret_env"})
        contact = {"email" if account.channel == "email" else "phone": account.to}
        return self._launched(f"live-{account.channel}", [contact], given, 1, registry.problems)

    def _launched(
        self, slug: str, contacts: list[dict[str, Any]], account: dict[str, Any], chunk: int, problems: launch.Problems
    ) -> Launched:  # fmt: skip
        at = datetime.now(UTC)
        with self.engine.begin() as connection:
            tenancy.service(connection)
            tenant_id = tenancy.create(connection, slug, slug, "USD")
            tenancy.service(connection, tenant_id)
            if contacts:
                rows = [{"tenant_id": tenant_id} | contact for contact in contacts]
                connection.execute(spine_contacts.insert(), rows)
            campaign = spine_campaigns.insert().values(tenant_id=tenant_id, name="certification")
            campaign_id = connection.execute(campaign.returning(spine_campaigns.c.id)).scalar_one()
            account_id = setup.account(connection, tenant_id, "certified", **account, is_connected=True)
            setup.policy(
                connection, tenant_id, account["channel"], hourly_cap=None, daily_cap=None, needs_unsubscribe=False,
                needs_consent=False,
            )  # fmt: skip
            content_id = contents.write(
                connection, tenant_id, campaign_id, account="certified", author="ann",
                subject="[Test] Certification of deliveries",
                body="This was sent to show that deliveries arrive. Nothing else follows.",
            )  # fmt: skip
            seen = views.content(connection, tenant_id, content_id).content_hash
            contents.approve(connection, tenant_id, content_id, seen, approver="bob", at=at)
            done = launch.launch(
                connection, tenant_id, campaign_id, actor="ann", at=at, problems=problems, chunk_size=chunk
            )
        return Launched(tenant_id, campaign_id, done.run_id, account_id)

    def start(self, name: str, **settings: Any) -> Any:
        url = self.engine.url.render_as_string(hide_password=False)
        given = {"url": url, "ledger": self.ledger_path, "name": name, "prepare": self._prepare}
        process = worker.start(worker.Settings(**(given | settings)))
        self._started.append(process)
        return process

    def finish(self, name: str = "fresh") -> None:
        """A worker that nothing befalls works until nothing is open."""
        ended(self.start(name))

    def leave(self) -> None:
        """Ends what a scenario that broke off has left running."""
        for process in self._started:
            if process.is_alive():
                process.kill()
            process.join()

    def effects(self, launched: Launched) -> Counter[str]:
        return self.ledger.effects(launched.account)

    def items(self, launched: Launched) -> dict[str, str]:
        """The status of each item by its address."""
        rows = self._rows(
            launched, sa.select(channel_outbox.c.address, channel_outbox.c.status), channel_outbox
        )
        return {row.address: row.status for row in rows}

    def statuses(self, launched: Launched) -> dict[str, int]:
        return dict(sorted(Counter(self.items(launched).values()).items()))

    def cases(self, launched: Launched) -> dict[str, int]:
        """How many cases there are by their resolution, 'open' for those without one."""
        resolution = sa.func.coalesce(reconciliation_cases.c.resolution, "open")
        rows = self._rows(launched, sa.select(resolution.label("resolution")), reconciliation_cases)
        return dict(sorted(Counter(row.resolution for row in rows).items()))

    def run(self, launched: Launched, run_id: UUID | None = None) -> sa.Row[Any]:
        query = sa.select(campaign_runs).where(campaign_runs.c.id == (run_id or launched.run_id))
        return self._rows(launched, query, campaign_runs)[0]

    def asked(self, launched: Launched, statement: str, **given: Any) -> Sequence[sa.Row[Any]]:
        """Rows of a named statement about the tenant; the transaction is pinned to it."""
        with self.engine.begin() as connection:
            tenancy.service(connection, launched.tenant_id)
            return connection.execute(
                statements("delivery_certify")[statement], {"tenant_id": launched.tenant_id} | given
            ).all()

    def _rows(self, launched: Launched, query: sa.Select[Any], table: sa.Table) -> Sequence[sa.Row[Any]]:
        with self.engine.begin() as connection:
            tenancy.service(connection, launched.tenant_id)
            return connection.execute(query.where(table.c.tenant_id == launched.tenant_id)).all()


def ended(process: Any) -> int:
    """How a process ended: 0, or less the signal that ended it.

    Raises TimeoutError for one that does not, and RuntimeError for one that broke: it has shown nothing.
    """
    process.join(_WAIT)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"worker {process.name} did not end")
    if process.exitcode > 0:
        raise RuntimeError(f"worker {process.name} broke")
    return process.exitcode


def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds. Raises TimeoutError when it does not come to that."""
    ends_at = time.monotonic() + _WAIT
    while not holds():
        if time.monotonic() > ends_at:
            raise TimeoutError("it did not come to what was waited for")
        time.sleep(0.02)


def is_stopped(process: Any) -> bool:
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
