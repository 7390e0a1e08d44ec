"""Models of tenants, from what people said to what holds now: trained, compared, promoted.

How lines become features and probabilities stands in the other modules, how gates are made of what was predicted in
`gate_records`; here stand the order of things and what is written down of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books.contract import Scored
from kernel.books.people import PIPELINE
from kernel.errors import RefusedError
from ml import classifier, frames, promote
from models.books import books_audit
from models.statements import array, statements

TRAIN_MONTHS = 24
LEAST_LABELS = 50


@dataclass(frozen=True, slots=True)
class Pool:
    """Tenants that learn together; one alone, unless its settings name a pool."""

    name: str | None
    tenant_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """`why` says what kept it from being trained, or from taking the place of the active model."""

    pool: Pool
    version: str | None
    labels: int
    comparison: promote.Comparison | None = None
    why: tuple[str, ...] = ()

    @property
    def may_hold(self) -> bool:
        return self.version is not None and not self.why


def pools(connection: sa.Connection) -> list[Pool]:
    """Every tenant that keeps books, with those it learns with."""
    tenancy.service(connection)
    together: dict[str, list[UUID]] = {}
    alone = []
    for row in connection.execute(_sql("pools")):
        if row.pool:
            together.setdefault(row.pool, []).append(row.tenant_id)
        else:
            alone.append(Pool(None, (row.tenant_id,)))
    return [*(Pool(name, tuple(ids)) for name, ids in sorted(together.items())), *alone]


def pool_of(connection: sa.Connection, tenant_id: UUID) -> Pool:
    """The pool that a tenant learns with. Raises RefusedError for one that keeps no books."""
    for pool in pools(connection):
        if tenant_id in pool.tenant_ids:
            return pool
    raise RefusedError("the tenant keeps no books yet: onboard it, or give it settings")


def train(
    connection: sa.Connection, pool: Pool, folder: Path, *, before: datetime, at: datetime
) -> Candidate:
    """Trains a candidate on the labels that were known before an instant, and compares its kind with the active model.

    The comparison is made on the labels that the active model does not know, by a model that was trained without them; what
    is registered is the same recipe trained with them. Without an active model there is nothing to compare with.
    """
    lines = frames.labelled(connection, pool.tenant_ids, since=first_day(before), before=before)
    if len(lines) < LEAST_LABELS:
        return Candidate(pool, None, len(lines), why=(f"{len(lines)} labels, {LEAST_LABELS} are needed",))
    comparison, why = _compared(connection, pool, folder, before)
    made = classifier.fit(lines, before=before)
    saved = made.save(folder)
    given = {
        "tenants": array(pool.tenant_ids), "version": made.version, "pool": pool.name, "place": saved.name,
        "sha256": hashlib.sha256(saved.read_bytes()).hexdigest(), "trained_before": before, "at": at,
        "label_count": len(lines), "parameters": "{}",
        "metrics": json.dumps({"comparison": _told(comparison), "why": why}),
    }  # fmt: skip
    tenancy.service(connection)
    connection.execute(_sql("register"), given)
    return Candidate(pool, made.version, len(lines), comparison, why)


def candidates(connection: sa.Connection, *, before: datetime) -> list[Candidate]:
    """What was trained on the labels of before an instant and waits to hold or to be refused."""
    tenancy.service(connection)
    waiting: dict[tuple[str, str | None], list[sa.Row[Any]]] = {}
    for row in connection.execute(_sql("candidates"), {"before": before}):
        waiting.setdefault((row.version, row.pool), []).append(row)
    return [
        Candidate(
            Pool(pool, tuple(row.tenant_id for row in rows)), version, rows[0].label_count, why=tuple(rows[0].metrics["why"])
        )
        for (version, pool), rows in waiting.items()
    ]  # fmt: skip


def settle(
    connection: sa.Connection, candidate: Candidate, *, at: datetime, later: Collection[UUID] = ()
) -> None:
    """Lets a candidate take the place of the active model, or writes down why not; of each tenant of its pool.

    Of tenants in `later` it stays a candidate.
    """
    if candidate.version is None:
        return
    for tenant_id in candidate.pool.tenant_ids:
        if tenant_id in later:
            continue
        if candidate.may_hold:
            bring(connection, tenant_id, candidate.version, at=at)
            continue
        tenancy.service(connection, tenant_id)
        reason = "; ".join(candidate.why)
        given = {"tenant_id": tenant_id, "version": candidate.version, "status": "refused", "reason": reason}
        if connection.execute(_sql("settle"), given).rowcount:
            chain.append(
                connection, books_audit, tenant_id, "model_refused",
                actor=PIPELINE, at=at, version=candidate.version, reason=reason,
            )  # fmt: skip


def bring(connection: sa.Connection, tenant_id: UUID, version: str, *, at: datetime) -> None:
    """Has a registered model hold for a tenant, in place of the one that does."""
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "version": version}
    held = _active(connection, tenant_id)
    if held is not None and held.version == version:
        return
    connection.execute(_sql("retire"), given | {"reason": f"{version} took its place"})
    connection.execute(_sql("settle"), given | {"status": "active", "reason": None})
    chain.append(
        connection, books_audit, tenant_id, "model_promoted",
        actor=PIPELINE, at=at, version=version, instead_of=held.version if held else None,
    )  # fmt: skip


def active(connection: sa.Connection, tenant_id: UUID, folder: Path) -> classifier.Model | None:
    """The model that holds for a tenant. Raises RefusedError when its file is not the one that was registered."""
    tenancy.service(connection, tenant_id)
    found = _active(connection, tenant_id)
    return None if found is None else _loaded(found, folder)


def holding(connection: sa.Connection, tenant_id: UUID) -> str | None:
    """The version of the model that holds for a tenant."""
    tenancy.service(connection, tenant_id)
    found = _active(connection, tenant_id)
    return None if found is None else found.version


def named(connection: sa.Connection, tenant_id: UUID, version: str, folder: Path) -> classifier.Model:
    """A registered model by its version. Raises RefusedError as `active`."""
    tenancy.service(connection, tenant_id)
    found = connection.execute(_sql("named"), {"tenant_id": tenant_id, "version": version}).one()
    return _loaded(found, folder)


def _active(connection: sa.Connection, tenant_id: UUID) -> sa.Row[Any] | None:
    return connection.execute(_sql("active"), {"tenant_id": tenant_id}).one_or_none()


def _loaded(found: sa.Row[Any], folder: Path) -> classifier.Model:
    place = folder / found.place
    try:
        written = place.stat()
        return _read(place, found.sha256, written.st_mtime_ns, written.st_size)
    except (FileNotFoundError, _OtherFile):
        raise RefusedError(
            f"model {found.version} is not in {place} as it was registered: put its file back, or train anew"
        ) from None


class _OtherFile(Exception):
    """The bytes are not those that were registered."""


# Tenants that learn together are gone through one after another. A file that was written to is read anew.
@lru_cache(maxsize=2)
def _read(place: Path, sha256: str, written_ns: int, size: int) -> classifier.Model:
    if hashlib.sha256(place.read_bytes()).hexdigest() != sha256:
        raise _OtherFile
    return classifier.load(place)


def scored(lines: pd.DataFrame, model: classifier.Model) -> list[Scored]:
    """What a model says of lines, in their order."""
    found = model.score(lines)
    hashes = found.feature_hash
    return [
        Scored(
            UUID(txn), account, float(p), top, bool(new), feature_hash, model.version, sources,
        )
        for txn, account, p, top, new, feature_hash, sources in zip(
            lines["txn"], found.account, found.p, found.top, found.is_new_vendor, hashes, found.sources, strict=True
        )
    ]  # fmt: skip


def _compared(
    connection: sa.Connection, pool: Pool, folder: Path, before: datetime
) -> tuple[promote.Comparison | None, tuple[str, ...]]:
    held = active(connection, pool.tenant_ids[0], folder)
    if held is None:
        return None, ()
    # As many months as the active one learnt, up to where it did: with fewer, a candidate would know fewer rare accounts.
    began = first_day(held.trained_before)
    lines = frames.labelled(connection, pool.tenant_ids, since=began, before=before)
    since = pd.Timestamp(held.trained_before)
    newest, earlier = lines[lines["labelled_at"] >= since], lines[lines["labelled_at"] < since]
    if len(newest) < promote.LEAST_LINES or len(earlier) < LEAST_LABELS:
        return None, (
            f"{len(newest)} labels that the active model does not know, {promote.LEAST_LINES} are needed to compare",
        )
    candidate = classifier.fit(earlier, before=since.to_pydatetime())
    compared = promote.compare(_predicted(newest, held), _predicted(newest, candidate))
    return compared, compared.reasons


def _predicted(lines: pd.DataFrame, model: classifier.Model) -> pd.DataFrame:
    found = model.score(lines)
    return lines.assign(proposed=found.account, raw_p=found.p, is_new_vendor=found.is_new_vendor)


def first_day(before: datetime) -> date:
    """Of the lines that a model learns from."""
    return (pd.Timestamp(before) - pd.DateOffset(months=TRAIN_MONTHS)).date()


def _told(comparison: promote.Comparison | None) -> Any:
    return None if comparison is None else json.loads(json.dumps(asdict(comparison), default=_plain))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _sql(name: str) -> sa.TextClause:
    return statements("books_frames")[name]
