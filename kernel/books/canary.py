"""Canaries: a newer version decides about a stable part of the lines, which grows while it does no worse, and ends when it does.

What goes by the name autopost is the part of lines that pass which are posted, after a tenant came to P3.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

import numpy as np
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import autopost, intervals
from kernel.books.holding import hold
from kernel.errors import RefusedError
from models.books import books_audit
from models.books_release import canaries
from models.statements import statements

Kind = Literal["model", "ruleset", "calibrator", "autopost"]
STEPS = (5, 10, 50, 100)
# To show 0.90 where the truth is 0.95 takes about so many checked lines.
LEAST_CHECKED = 120
PRECISION = 0.90
# By how much a newer version may be less accurate, at most, with 95 % confidence.
MARGIN = 0.02
_MOST_PSI = 0.20
_MOST_REVIEW_SHIFT = 0.05


@dataclass(frozen=True, slots=True)
class Canary:
    id: UUID
    kind: Kind
    champion: str
    challenger: str
    percent: int
    step_at: datetime
    status: str
    reason: str | None

    def takes(self, tenant_id: UUID, txn_id: UUID) -> bool:
        """Whether the challenger decides about the line. Of a growing part nothing goes back."""
        return self.status == "running" and autopost.is_drawn(
            f"canary:{self.id}", tenant_id, txn_id, self.percent
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """One on trial or ended, with what people said since its last step; of what ended nothing is counted any more.

    `checked` are labelled lines that it is judged by, and `right` those of them that it had right: of autopost, lines that
    passed; of the others, lines that both versions were asked about.
    """

    canary: Canary
    started_at: datetime
    ended_at: datetime | None
    checked: int | None = None
    right: int | None = None


_SHOWN = [canaries.c[name] for name in Canary.__dataclass_fields__]


def running(connection: sa.Connection, tenant_id: UUID, kind: Kind) -> Canary | None:
    tenancy.service(connection, tenant_id)
    asked = (canaries.c.tenant_id == tenant_id, canaries.c.kind == kind, canaries.c.status == "running")
    row = connection.execute(sa.select(*_SHOWN).where(*asked)).one_or_none()
    return Canary(*row) if row else None


def trials(connection: sa.Connection, tenant_id: UUID, *, most: int = 10) -> list[Trial]:
    """What is on trial, and behind it what ended last."""
    tenancy.service(connection, tenant_id)
    newest = (
        sa.select(*_SHOWN, canaries.c.started_at, canaries.c.ended_at)
        .where(canaries.c.tenant_id == tenant_id)
        .order_by(canaries.c.ended_at.desc().nulls_first(), canaries.c.started_at.desc(), canaries.c.id)
        .limit(most)
    )
    found = []
    for row in connection.execute(newest).all():
        *told, started_at, ended_at = row
        held = Canary(*told)
        judged = _checked(connection, tenant_id, held) if held.status == "running" else (None, None)
        found.append(Trial(held, started_at, ended_at, *judged))
    return found


def _checked(connection: sa.Connection, tenant_id: UUID, held: Canary) -> tuple[int, int]:
    given = {"tenant_id": tenant_id, "since": held.step_at}
    if held.kind == "autopost":
        right = connection.execute(statements("books_stages")["passed"], given).scalars().all()
        return len(right), sum(right)
    rows = connection.execute(statements("books_stages")["compared"], given).all()
    labelled = [row for row in rows if row.is_labelled]
    own = [row.is_right for row in labelled if getattr(row, f"{held.kind}_version") == held.challenger]
    others = [
        row.is_other_right for row in labelled if getattr(row, f"{held.kind}_version") != held.challenger
    ]
    return len(labelled), sum(own) + sum(others)


def start(
    connection: sa.Connection, tenant_id: UUID, kind: Kind, *, champion: str, challenger: str, by: str, at: datetime
) -> Canary:  # fmt: skip
    """Begins with the least part. Raises RefusedError while another of the kind is running; an autopost one is followed."""
    hold(connection, tenant_id)
    other = running(connection, tenant_id, kind)
    if other is not None:
        if kind != "autopost":
            raise RefusedError(f"{kind} {other.challenger} is on trial: let it end first, or revert it")
        _end(connection, tenant_id, other, "reverted", at, by, "another approval began")
    made = Canary(uuid4(), kind, champion, challenger, STEPS[0], at, "running", None)
    row = {name: getattr(made, name) for name in Canary.__dataclass_fields__}
    connection.execute(canaries.insert().values(row | {"tenant_id": tenant_id, "started_at": at}))
    _note(connection, tenant_id, "canary_started", by, at, made)
    return made


def revert(
    connection: sa.Connection, tenant_id: UUID, kind: Kind, *, by: str, at: datetime, reason: str
) -> Canary:
    """Ends the one that is running: its version decides about nothing more."""
    hold(connection, tenant_id)
    held = running(connection, tenant_id, kind)
    if held is None:
        raise RefusedError(f"no {kind} is on trial")
    return _end(connection, tenant_id, held, "reverted", at, by, reason)


def end_autopost(connection: sa.Connection, tenant_id: UUID, *, at: datetime, reason: str) -> None:
    held = running(connection, tenant_id, "autopost")
    if held is not None:
        _end(connection, tenant_id, held, "reverted", at, "pipeline", reason)


def autopost_percent(connection: sa.Connection, tenant_id: UUID, *, since: datetime | None) -> int:
    """Which part of the lines that pass is posted under the approval of that instant: none where its canary was reverted."""
    if since is None:
        return 0
    asked = (
        canaries.c.tenant_id == tenant_id, canaries.c.kind == "autopost", canaries.c.started_at >= since,
    )  # fmt: skip
    newest = sa.select(canaries.c.status, canaries.c.percent).where(*asked)
    row = connection.execute(
        newest.order_by(canaries.c.started_at.desc(), canaries.c.id).limit(1)
    ).one_or_none()
    if row is None or row.status == "reverted":
        return 0
    return 100 if row.status == "promoted" else row.percent


def step(
    connection: sa.Connection, tenant_id: UUID, kind: Kind, *, by: str, at: datetime, harm: str | None = None
) -> Canary | None:
    """Moves the one that is running by what was decided and said since its last step: on, back at once, or not yet.

    `harm`: what else went wrong with it, such as cost or the time of a run. None when no one is running.
    """
    hold(connection, tenant_id)
    held = running(connection, tenant_id, kind)
    if held is None:
        return None
    imbalanced = connection.scalar(statements("books_metrics")["imbalanced"], {"tenant_id": tenant_id})
    harm = harm or (f"{imbalanced} entries do not balance" if imbalanced else None)
    judge = _passed if kind == "autopost" else _compared
    is_good, why = (False, None) if harm else judge(connection, tenant_id, held)
    if harm or why:
        return _end(connection, tenant_id, held, "reverted", at, by, harm or why)
    if not is_good:
        return held
    if held.percent == STEPS[-1]:
        return _end(connection, tenant_id, held, "promoted", at, by, "did no worse at every step")
    percent = STEPS[STEPS.index(held.percent) + 1]
    return _change(connection, tenant_id, held, "canary_grew", at, by, percent=percent, step_at=at)


def _passed(connection: sa.Connection, tenant_id: UUID, held: Canary) -> tuple[bool, str | None]:
    """Whether to go on, and why to go back: the precision of lines that passed, as people saw them since the step."""
    given = {"tenant_id": tenant_id, "since": held.step_at}
    right = connection.execute(statements("books_stages")["passed"], given).scalars().all()
    return _precise(sum(right), len(right))


def _precise(right: int, count: int) -> tuple[bool, str | None]:
    lower, upper = intervals.wilson(right, count)
    if upper < PRECISION or (count >= LEAST_CHECKED and lower < PRECISION):
        return False, f"precision {right} of {count}, 95 % interval {lower:.3f} to {upper:.3f}"
    return count >= LEAST_CHECKED, None


def _compared(connection: sa.Connection, tenant_id: UUID, held: Canary) -> tuple[bool, str | None]:
    """As `_passed`, by what champion and challenger said of the same lines."""
    given = {"tenant_id": tenant_id, "since": held.step_at}
    rows = connection.execute(statements("books_stages")["compared"], given).all()
    by_new = [getattr(row, f"{held.kind}_version") == held.challenger for row in rows]
    labelled = [(row, new) for row, new in zip(rows, by_new, strict=True) if row.is_labelled]
    posted = [row.is_right for row, new in labelled if new and row.verdict != "review"]
    _, upper = intervals.wilson(sum(posted), len(posted))
    if upper < PRECISION:
        return False, f"precision {sum(posted)} of {len(posted)} lines that it let pass"
    if len(labelled) < LEAST_CHECKED:
        return False, None
    gains = [(row.is_right - row.is_other_right) * (1 if new else -1) for row, new in labelled]
    _, lower, upper = intervals.mean([float(gain) for gain in gains])
    if upper < 0:
        return (
            False,
            f"less often right than {held.champion}: by {-upper:.3f} at least, of {len(gains)} lines",
        )
    is_alike = _psi([row.raw_p for row in rows], [row.other_p for row in rows]) <= _MOST_PSI
    return lower >= -MARGIN and is_alike and _reviews_alike(rows, by_new), None


def _reviews_alike(rows: list[sa.Row[Any]], by_new: list[bool]) -> bool:
    """Whether each reason to hold a line back is about as frequent with either version."""
    counted = {True: Counter(), False: Counter()}
    for row, new in zip(rows, by_new, strict=True):
        counted[new][row.not_auto_post_reason] += 1
    ours, theirs = (counted[new] for new in (True, False))
    if not ours or not theirs:
        return True
    return all(
        abs(ours[reason] / ours.total() - theirs[reason] / theirs.total()) <= _MOST_REVIEW_SHIFT
        for reason in ours.keys() | theirs.keys()
    )


def _psi(ours: list[Any], theirs: list[Any]) -> float:
    """Population stability of raw probabilities in ten equal bins; a share of nothing counts as 1e-4."""
    shares = []
    for values in (ours, theirs):
        counted, _ = np.histogram([float(value or 0) for value in values], bins=10, range=(0, 1))
        shares.append(np.maximum(counted / max(counted.sum(), 1), 1e-4))
    return float(np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1])))


def _end(
    connection: sa.Connection, tenant_id: UUID, held: Canary, status: str, at: datetime, by: str, reason: str
) -> Canary:
    changed = {"status": status, "reason": reason, "ended_at": at}
    return _change(connection, tenant_id, held, f"canary_{status}", at, by, **changed)


def _change(
    connection: sa.Connection,
    tenant_id: UUID,
    held: Canary,
    event: str,
    at: datetime,
    by: str,
    **changed: Any,
) -> Canary:
    row = (canaries.c.tenant_id == tenant_id, canaries.c.id == held.id)
    made = Canary(*connection.execute(canaries.update().where(*row).values(changed).returning(*_SHOWN)).one())
    _note(connection, tenant_id, event, by, at, made)
    return made


def _note(
    connection: sa.Connection, tenant_id: UUID, event: str, by: str, at: datetime, told: Canary
) -> None:
    chain.append(
        connection, books_audit, tenant_id, event,
        actor=by, at=at, id=told.id, kind=told.kind, challenger=told.challenger, percent=told.percent, reason=told.reason,
    )  # fmt: skip
