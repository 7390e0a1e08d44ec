"""Telling people: thresholds of sites that were passed, and what the watch found wrong, each once.

By which ways they are told stands in `tellers`. A row is marked after it was told: whoever is killed in between has it
told again, and nobody is told nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.http import NoAnswer, NotSent
from kernel.usage import watchtower
from kernel.usage.canonical import instant
from kernel.usage.watchtower import Finding
from models.statements import array, statements

_NAMED, _LISTED = 20, 100  # tenants in a text, and in the fields: how many there are stands beside them
# What a way raises, or has met, when nobody is there; others have refused what they were told.
_AWAY = (NotSent, NoAnswer, ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)
_TRIES = 2  # messages in a row that find a way away, until it is left alone: it may be one message that breaks the line


class Teller(Protocol):
    """A way to tell people. Whatever it raises means that they were not told, and are told later; a failed connection,
    raised or raised for, that nobody is there.
    """

    def tell(self, subject: str, body: str, fields: Mapping[str, Any]) -> None:
        """`subject` is one line, `body` text for people, `fields` the same for programs, of JSON's types."""


# Before every notice, in the order in which they are told.
_BEFORE_ALL = {"created_at": None, "site_id": None, "month": None, "threshold": None}


@dataclass(slots=True)
class Told:
    """How many thresholds and alarms people were told of, and why a way could not be used, a sentence each."""

    notices: int = 0
    alarms: int = 0
    failures: list[str] = field(default_factory=list)


class _Ways:
    """The ways of one run, without those that are away."""

    def __init__(self, tellers: Sequence[Teller], told: Told) -> None:
        self.told = told
        self._missed = [(teller, 0) for teller in tellers]  # in a row

    def __bool__(self) -> bool:
        return bool(self._missed)

    def take(self, subject: str, body: str, fields: Mapping[str, Any]) -> bool:
        """Whether one of them took it."""
        results = [self._try(teller, missed, subject, body, fields) for teller, missed in self._missed]
        self._missed = [
            (teller, missed)
            for (teller, _), (_, missed) in zip(self._missed, results, strict=True)
            if missed < _TRIES
        ]
        return any(is_taken for is_taken, _ in results)

    def _try(
        self, teller: Teller, missed: int, subject: str, body: str, fields: Mapping[str, Any]
    ) -> tuple[bool, int]:
        try:
            teller.tell(subject, body, fields)
        except Exception as error:
            # Whatever a way raises, even one that is not ours: usage goes on, and it is told later.
            why = str(error) or type(error).__name__
            if why not in self.told.failures:
                self.told.failures.append(why)
            is_away = isinstance(error, _AWAY) or isinstance(error.__context__, _AWAY)
            return False, missed + 1 if is_away else 0
        return True, 0


def tell(engine: sa.Engine, tellers: Sequence[Teller], clock: Callable[[], datetime]) -> Told:
    """Looks at every tenant, notes what began and ended, and tells what nobody was told of yet.

    A thing is told when one way has taken it: the others are for safety. What none takes stays for the next time, and
    keeps nothing else from being told; once every way is away, nothing more is tried.
    """
    told = Told()
    ways = _Ways(tellers, told)
    _note(engine, clock())
    for check in watchtower.CHECKS:
        _tell_alarms(engine, ways, check, clock)
    last: Mapping[str, Any] | None = _BEFORE_ALL
    while ways and last is not None:
        last = _tell_notice(engine, ways, last, clock)
    return told


def _note(engine: sa.Engine, at: datetime) -> None:
    with engine.begin() as connection:
        wrong = _wrong(watchtower.look(connection, at=at))
        seen: dict[tuple[UUID, str], Finding] = {}
        if wrong:
            for tenant in tenancy.all_tenants(connection):
                found = watchtower.look(connection, at=at, tenant_id=tenant.id, checks=wrong)
                seen |= {(tenant.id, each.check): each for each in found if each.check in _wrong(found)}
            tenancy.service(connection)
        given = {
            "tenants": array(tenant_id for tenant_id, _ in seen), "checks": array(check for _, check in seen),
            "statuses": array(each.status for each in seen.values()),
            "told": [each.told for each in seen.values()], "at": at,
        }  # fmt: skip
        for step in ("begin", "go_on", "end"):
            connection.execute(_sql(step), given)


def _wrong(found: Sequence[Finding]) -> set[str]:
    return {each.check for each in found if each.status != "ok"}


def _tell_alarms(engine: sa.Engine, ways: _Ways, check: str, clock: Callable[[], datetime]) -> None:
    """Tells what there is of a check, in a message for what began or goes on and one for what ended."""
    with engine.begin() as connection:
        tenancy.service(connection)
        asked = {"check": check, "at": clock(), "severity": list(watchtower.SEVERITY)}
        held = connection.execute(_sql("hold_alarms"), asked).all()
        for rows in ([row for row in held if not row.ended_at], [row for row in held if row.ended_at]):
            if not rows or not ways.take(*_alarm(check, rows)):
                continue
            marked = {
                "check": check, "at": clock(), "tenants": array(row.tenant_id for row in rows),
                "began": [row.began_at for row in rows],
            }  # fmt: skip
            connection.execute(_sql("alarms_told"), marked)
            ways.told.alarms += len(rows)


def _tell_notice(
    engine: sa.Engine, ways: _Ways, last: Mapping[str, Any], clock: Callable[[], datetime]
) -> Mapping[str, Any] | None:
    """Tells the first one after the last that was tried; which it is, None when there was none."""
    with engine.begin() as connection:
        tenancy.service(connection)
        row = connection.execute(_sql("hold_notice"), {**last, "at": clock()}).first()
        if row is None:
            return None
        which = {
            "created_at": row.created_at,
            "site_id": row.site_id,
            "month": row.year_month,
            "threshold": row.threshold,
        }
        if ways.take(*_notice(row)):
            connection.execute(_sql("notice_told"), which | {"tenant_id": row.tenant_id, "at": clock()})
            ways.told.notices += 1
    return which


def _alarm(check: str, rows: Sequence[sa.Row[Any]]) -> tuple[str, str, dict[str, Any]]:
    status = max((row.status for row in rows), key=watchtower.SEVERITY.index)
    is_over = rows[0].ended_at is not None
    state = "ended" if is_over else "began" if any(row.told_status is None for row in rows) else "goes on"
    named = ", ".join(row.tenant for row in rows[:_NAMED])
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    subject = f"Usage, {check}: {'over' if is_over else status} for {named}{more}"
    body = "\n".join(
        f"{row.tenant}, since {instant(row.began_at)}{f' until {instant(row.ended_at)}' if is_over else ''}: {row.told}"
        for row in rows[:_NAMED]
    )
    fields = {
        "kind": "alarm",
        "check": check,
        "state": state,
        "status": status,
        "tenants": [
            {
                "tenant": row.tenant,
                "status": row.status,
                "told": row.told,
                "began_at": instant(row.began_at),
                "ended_at": row.ended_at and instant(row.ended_at),
            }
            for row in rows[:_LISTED]
        ],
        "count": len(rows),
    }
    return subject, f"{body}\n{more.strip()}".strip(), fields


def _notice(row: sa.Row[Any]) -> tuple[str, str, dict[str, Any]]:
    subject = f"Usage, {row.tenant}: {row.site} has used {row.threshold} % of {row.year_month}"
    body = f"Site {row.site} of {row.tenant} has used {row.used:,} of {row.limit_then:,} events of {row.year_month}."
    fields = {
        "kind": "threshold",
        "tenant": row.tenant,
        "site": row.site,
        "month": row.year_month,
        "threshold": row.threshold,
        "used": row.used,
        "limit": row.limit_then,
        "passed_at": instant(row.created_at),
    }
    return subject, body, fields


def _sql(name: str) -> sa.TextClause:
    return statements("usage_telling")[name]
