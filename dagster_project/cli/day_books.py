"""Books of the demonstration: two tenants' statements, what people answered, and how far each came by it.

Months are lived one after another on a clock of their own: statements come in, lines are decided, a person answers, and
what was answered is learnt. What the statements say is made by `samples.statements`; nothing here is a rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import typer

from dagster_project.cli import ui

if TYPE_CHECKING:
    import sqlalchemy as sa

    from kernel.books.export import Exported
    from kernel.books.onboard import Onboarded
    from samples.statement_files import Line
    from samples.statements import Sample

_PERSON = "bo.bookkeeper"
_BANKS = {"checking": "Checking Account", "card": "Credit Card"}
# Months that are lived in the shadow before one in which lines may be posted.
_MONTHS = {"Juniper Supply": 14, "Fox Bindery": 4}
_SEED = 7
# Learning takes longest, and twice in between is enough for the story: after these months, and after the last that is answered.
_LEARNT_AFTER = (2, 8)


@dataclass(frozen=True, slots=True)
class Books:
    """What came of a tenant: lines, how many of them people labelled, what was posted by itself, and why P3 was refused."""

    company: str
    slug: str
    lines: int
    labels: int
    precision: float | None
    stage: str
    refused: str | None
    posted_by_itself: int
    exported: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Tenant:
    made: Onboarded
    sample: Sample
    codes: dict[str, str]
    folder: Path

    @property
    def id(self) -> UUID:
        return self.made.tenant_id


def live(
    engine: sa.Engine, home: Path, models: Path, reports: Path, exports: Path, last: date
) -> list[Books]:
    """Lives the months of both tenants once, the last one before that of `last`; a second call changes nothing. Fails when
    something does not add up.
    """
    from samples.statements import BUSY, SMALL, statements

    found = []
    for profile, template in ((BUSY, "starter"), (SMALL, "starter")):
        months = _MONTHS[profile.company]
        sample = statements(replace(profile, first=_months_before(last, months)), months, _SEED)
        tenant = _prepared(engine, sample, template, home / "demo-books")
        if tenant.made.is_new:
            _live_months(engine, tenant, models)
        found.append(_told(engine, tenant, reports, exports))
    return found


def _months_before(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, 1)


def _prepared(engine: sa.Engine, sample: Sample, template: str, folder: Path) -> _Tenant:
    """The tenant with a chart that has an account for every category of the sample, and a person who answers."""
    from kernel import members
    from kernel.books import accounts, onboard, settings
    from samples.statement_vendors import CATEGORIES

    first = _begins(sample)
    with engine.begin() as connection:
        made = onboard.onboard(connection, template, sample.profile.company, external_key="demo", at=first)
        known = {row["category"]: row["code"] for row in accounts.listed(connection, made.tenant_id)}
        if made.is_new:
            members.add(connection, made.tenant_id, uuid4(), _PERSON, "approver")
            for number, category in enumerate(each for each in CATEGORIES if each not in known):
                code = str(6500 + number)
                accounts.add(
                    connection, made.tenant_id, code, category.replace("_", " ").capitalize(), "Expense", category,
                    actor=_PERSON, at=first,
                )  # fmt: skip
                known[category] = code
            settings.change(
                connection, made.tenant_id, {"autopost_requested": True}, author=_PERSON, reason="the demonstration", at=first
            )  # fmt: skip
    return _Tenant(made, sample, known, folder / made.slug)


def _begins(sample: Sample) -> datetime:
    day = min(file.first for file in sample.files)
    return datetime(day.year, day.month, 1, tzinfo=UTC)


def _after(month: str) -> datetime:
    year, number = map(int, month.split("-"))
    return datetime(year + number // 12, number % 12 + 1, 1, 6, tzinfo=UTC)


def _months(sample: Sample) -> list[str]:
    return sorted({f"{file.last:%Y-%m}" for file in sample.files})


def _live_months(engine: sa.Engine, tenant: _Tenant, models: Path) -> None:
    company, months = tenant.sample.profile.company, _months(tenant.sample)
    ui.step("Books", f"{company}: {len(months)} months of statements, {months[0]} to {months[-1]}")
    with ui.progress() as progress:
        task = progress.add_task(f"Books of {company}", total=len(months))
        for number, month in enumerate(months[:-1], 1):
            _month(engine, tenant, month, models)
            if number in (*_LEARNT_AFTER, len(months) - 1):
                _learn(engine, tenant, month, models)
            _certify(engine, tenant, month)
            progress.advance(task)
        reached = _stages(engine, tenant, _after(months[-2]) + timedelta(hours=8))
        ui.step("Stage", f"{company} comes to {reached} by what it has shown")
        _month(engine, tenant, months[-1], models, answers=False)
        progress.advance(task)


def _month(engine: sa.Engine, tenant: _Tenant, month: str, models: Path, *, answers: bool = True) -> None:
    """Statements of a month come in, lines are decided, and a person answers."""
    from kernel.books import accounts, journal, ledger, reconcile
    from kernel.books.ingest import importing
    from ml import deciding

    at = _after(month)
    tenant.folder.mkdir(parents=True, exist_ok=True)
    for file in tenant.sample.files:
        if f"{file.last:%Y-%m}" == month:
            place = tenant.folder / file.name
            place.write_bytes(file.content)
            with engine.begin() as connection:
                account_id = accounts.bank(connection, tenant.id, _BANKS[file.account])
            importing.import_file(engine, tenant.id, account_id, place, actor=_PERSON, at=at)
    with engine.begin() as connection:
        deciding.decide_open(connection, tenant.id, models, run_id=f"demo-{month}", at=at)
    with engine.begin() as connection:
        journal.book(connection, tenant.id, at=at)
    if not answers:
        return
    with engine.begin() as connection:
        _answer(connection, tenant, at + timedelta(hours=3))
    with engine.begin() as connection:
        ledger.lock(connection, tenant.id, month, actor=_PERSON, at=at + timedelta(hours=4))
        reconcile.reconcile(connection, tenant.id, actor=_PERSON, at=at + timedelta(hours=4))


def _learn(engine: sa.Engine, tenant: _Tenant, month: str, models: Path) -> None:
    """What was answered until the end of a month is learnt."""
    from ml import deciding, learning

    at = _after(month) + timedelta(hours=6)
    with engine.begin() as connection:
        made = learning.train(connection, learning.pool_of(connection, tenant.id), models, before=at, at=at)
        deciding.promote(connection, made, at=at)
    learnt = f"{made.labels:,} answers" if made.version else f"nothing yet, {'; '.join(made.why)}"
    ui.step("Learn", f"{tenant.sample.profile.company}, up to {month}: {learnt}")


def _certify(engine: sa.Engine, tenant: _Tenant, month: str) -> None:
    """The gate that what was answered until the end of a month proves."""
    from ml import gate_records, learning

    with engine.begin() as connection:
        pool = learning.pool_of(connection, tenant.id)
        gate_records.gate(connection, pool, at=_after(month) + timedelta(hours=7))


def _answer(connection: sa.Connection, tenant: _Tenant, at: datetime) -> None:
    """Approves what is proposed rightly, by the person's own label, and corrects the rest."""
    from kernel.books import accounts, review

    truth = {_identity(line): line for line in tenant.sample.truth}
    waiting = review.queue(connection, tenant.id, most=100_000).lines
    proposed = {each.txn_id: each.proposed_account for each in waiting}
    right, wrong = [], {}
    own = {row["account_code"] for row in accounts.banks(connection, tenant.id)}
    for txn_id, identity in _identities(connection, tenant.id):
        if txn_id not in proposed:
            continue
        label = truth[identity].label
        # A transfer between own accounts is right where it is proposed as one.
        if proposed[txn_id] == tenant.codes[label] or (label == "transfer" and proposed[txn_id] in own):
            right.append(txn_id)
        else:
            wrong[txn_id] = tenant.codes[label]
    review.approve(connection, tenant.id, right, by=_PERSON, at=at)
    review.correct(connection, tenant.id, wrong, by=_PERSON, at=at)


def _identity(line: Line) -> tuple[Any, ...]:
    if line.bank_ref:
        return (line.account, line.bank_ref)
    return (line.account, line.on, line.amount_minor, line.description, line.occurrence)


def _identities(connection: sa.Connection, tenant_id: UUID) -> list[tuple[UUID, tuple[Any, ...]]]:
    """Every bank line with what its sample is found by."""
    import sqlalchemy as sa

    from kernel import tenancy
    from models.books import bank_accounts
    from models.books_lines import transactions

    lines, banks = transactions.c, bank_accounts.c
    tenancy.service(connection, tenant_id)
    query = sa.select(
        lines.id,
        banks.name,
        lines.bank_ref,
        lines.post_date,
        lines.amount_minor,
        lines.description,
        lines.occurrence,
    ).join(bank_accounts, sa.and_(banks.tenant_id == lines.tenant_id, banks.id == lines.bank_account_id))
    names = {name: account for account, name in _BANKS.items()}
    return [
        (row.id, (names[row.name], row.bank_ref))
        if row.bank_ref
        else (row.id, (names[row.name], row.post_date, row.amount_minor, row.description, row.occurrence))
        for row in connection.execute(query.where(lines.tenant_id == tenant_id))
    ]


def _stages(engine: sa.Engine, tenant: _Tenant, at: datetime) -> str:
    """As far as the evidence leads: what it lacks is refused, and that is where the tenant stays. The stage it comes to."""
    from kernel.books import stages
    from kernel.errors import RefusedError

    reached = "P0"
    for stage in ("P0", "P1", "P2", "P3"):
        try:
            with engine.begin() as connection:
                evidence = _evidence(connection, tenant, stage, at)
                ends = at + timedelta(days=60) if stage == "P3" else None
                stages.advance(
                    connection,
                    tenant.id,
                    evidence,
                    by=_PERSON,
                    at=at,
                    reason="the demonstration",
                    expires_at=ends,
                )
        except RefusedError:
            return reached
        reached = stage
    return reached


def _evidence(connection: sa.Connection, tenant: _Tenant, stage: Any, at: datetime) -> Any:
    from kernel import tenancy
    from ml import deciding
    from quality import books

    found = tenancy.find(connection, tenant.made.slug)
    broken = books.broken(deciding.report(connection, found, "90d", at=at))
    return deciding.gather(connection, found, stage, broken=broken, at=at)


def _told(engine: sa.Engine, tenant: _Tenant, reports: Path, exports: Path) -> Books:
    """What came of it. Fails when the books do not balance, or an export hands anything out twice."""
    from kernel import tenancy
    from kernel.books import export, ledger, metrics, stages
    from ml import deciding, shadow
    from quality import books

    at = _after(_months(tenant.sample)[-1]) + timedelta(hours=9)
    with engine.begin() as connection:
        found = tenancy.find(connection, tenant.made.slug)
        document = deciding.report(connection, found, "365d", at=at)
        stage = stages.current(connection, tenant.id, at=at)
        lacking = [] if stage.stage == "P3" else _evidence(connection, tenant, "P3", at).criteria
        balance = sum(each.balance for each in ledger.trial_balance(connection, tenant.id, date.max))
        posted = metrics.posted_by_itself(connection, tenant.id)
    shadow.write(document, reports / tenant.made.slug)
    first, second = (
        export.export(engine, tenant.id, "qbo_csv", exports / tenant.made.slug, actor=_PERSON, at=at)
        for _ in range(2)
    )
    told = [f"{each.name}: {each.found}, needs {each.needed}" for each in lacking if not each.is_met]
    if wrong := [*books.broken(document), *_wrong(balance, second)]:
        ui.fail(f"the books of {tenant.sample.profile.company} do not add up: {'; '.join(wrong)}")
    return Books(
        tenant.sample.profile.company, tenant.made.slug, document["population_n"], document["labelled_n"],
        document["overall_accuracy"], stage.stage, told[0] if told else None, posted,
        (first.new, second.new, second.skipped),
    )  # fmt: skip


def _wrong(balance: Any, again: Exported) -> list[str]:
    wrong = [f"the trial balance is {balance}"] if balance else []
    return [*wrong, f"a second export handed out {again.new} entries again"] if again.new else wrong


def tell(books: list[Books]) -> None:
    """What people read of it."""
    rows = [
        {
            "company": each.company, "lines": each.lines, "stage": each.stage,
            "right": "-" if each.precision is None else f"{each.precision:.1%}",
            "posted by itself": each.posted_by_itself, "exported": each.exported[0],
            "exported again": each.exported[1],
        }
        for each in books
    ]  # fmt: skip
    ui.emit(rows, False, title="Books: what the machine proposed, and how far that led")
    for each in books:
        if each.refused:
            typer.echo(ui.lines(f"{each.company} may not post by itself: {each.refused}"))
