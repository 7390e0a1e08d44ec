"""Sites: what sends events, and the write keys it proves itself by.

What a site may send stands in `kernel.usage.plans`, what becomes of it in `kernel.usage.gate`.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import audit
from models.statements import statements
from models.usage import site_keys, sites

PREFIX = "ros_"
_KEY_BYTES = 32
_PUBLIC_BYTES = 12

_VISIBLE = re.compile("[!-~]{1,128}")

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Site:
    """`public_id` is what its payloads carry; `origins` are those a browser may send from."""

    tenant_id: UUID
    id: UUID
    public_id: str
    name: str
    status: str
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WriteKey:
    """A key as it was made. `token` is shown this once: only its hash is kept."""

    id: UUID
    token: str
    hint: str


@dataclass(frozen=True, slots=True)
class KeptKey:
    id: UUID
    hint: str
    made_by: str
    created_at: datetime
    revoked_at: datetime | None


def make(
    connection: sa.Connection,
    tenant_id: UUID,
    name: str,
    *,
    public_id: str | None = None,
    origins: Sequence[str] = (),
    random: Random = secrets.token_bytes,
) -> Site:
    """A new site of the tenant. Raises RefusedError for a public id that is taken, by whomever, or cannot be one."""
    tenancy.service(connection, tenant_id)
    chosen = public_id or f"site_{random(_PUBLIC_BYTES).hex()}"
    values = {"tenant_id": tenant_id, "name": name, "public_id": chosen, "origins": list(origins)}
    try:
        with connection.begin_nested():
            return _site(connection.execute(sites.insert().values(values).returning(*sites.c)).one())
    except sa.exc.IntegrityError as error:
        if "public_id" not in str(error.orig):
            raise
        raise RefusedError(
            f"the public id {chosen!r} is taken, or has other than 1 to 128 visible ASCII characters: choose another one"
        ) from None


def of(connection: sa.Connection, tenant_id: UUID) -> list[Site]:
    """Those that are closed too, the oldest first."""
    tenancy.service(connection, tenant_id)
    found = connection.execute(
        sa.select(*sites.c)
        .where(sites.c.tenant_id == tenant_id)
        .order_by(sites.c.created_at, sites.c.public_id)
    )
    return [_site(row) for row in found]


def find(connection: sa.Connection, tenant_id: UUID, asked: str) -> Site:
    """The site of a public id, id or name. Raises RefusedError naming the nearest one."""
    known = of(connection, tenant_id)
    found = [site for site in known if asked in (site.public_id, str(site.id))] or [
        site for site in known if asked == site.name
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise RefusedError(f"the tenant has {len(found)} sites named {asked!r}: give the public id")
    near = difflib.get_close_matches(
        asked, [each for site in known for each in (site.public_id, site.name)], n=1
    )
    hint = f"did you mean {near[0]}?" if near else "make it with revenue-os usage site add"
    raise RefusedError(f"the tenant has no site {asked!r}: {hint}")


def close(connection: sa.Connection, site: Site, *, actor: str, at: datetime) -> None:
    """Nothing is taken from the site any more, for good, its plan ends, and those that were to begin never do; what it
    sent stands and is invoiced.

    Raises RefusedError for a closed one.
    """
    tenancy.service(connection, site.tenant_id)
    given = {"tenant_id": site.tenant_id, "site_id": site.id, "at": at}
    if connection.execute(statements("usage_doors")["close_site"], given).rowcount == 0:
        raise RefusedError(f"site {site.public_id} is closed already: nothing was changed")
    for name in ("drop_plans", "end_plans"):
        connection.execute(statements("usage_doors")[name], given)
    audit.append(connection, site.tenant_id, "site_closed", actor=actor, at=at, site_id=site.id)


def make_key(
    connection: sa.Connection,
    site: Site,
    *,
    actor: str,
    at: datetime,
    random: Random = secrets.token_bytes,
) -> WriteKey:
    """A further write key of the site, of 256 random bits. Raises RefusedError for a closed site."""
    tenancy.service(connection, site.tenant_id)
    if site.status != "active":
        raise RefusedError(
            f"site {site.public_id} is closed and takes nothing with any key: nothing was changed"
        )
    token = PREFIX + base64.urlsafe_b64encode(random(_KEY_BYTES)).decode().rstrip("=")
    hint = f"{PREFIX}…{token[-4:]}"
    values = {
        "tenant_id": site.tenant_id, "site_id": site.id, "key_hash": _hash(token), "hint": hint, "made_by": actor,
        "created_at": at,
    }  # fmt: skip
    made = connection.execute(site_keys.insert().values(values).returning(site_keys.c.id)).scalar_one()
    return WriteKey(made, token, hint)


def keys(connection: sa.Connection, site: Site) -> list[KeptKey]:
    """The site's keys, the newest first, revoked ones too."""
    tenancy.service(connection, site.tenant_id)
    columns = (getattr(site_keys.c, name) for name in KeptKey.__slots__)
    query = sa.select(*columns).where(site_keys.c.tenant_id == site.tenant_id, site_keys.c.site_id == site.id)
    rows = connection.execute(query.order_by(site_keys.c.created_at.desc(), site_keys.c.id))
    return [KeptKey(**row._mapping) for row in rows]


def revoke_key(connection: sa.Connection, tenant_id: UUID, key_id: UUID, *, at: datetime) -> None:
    """Nothing is taken with the key any more. Raises RefusedError for a key that is unknown or revoked already."""
    tenancy.service(connection, tenant_id)
    which = (
        site_keys.c.tenant_id == tenant_id,
        site_keys.c.id == key_id,
        site_keys.c.revoked_at.is_(None),
    )
    if connection.execute(site_keys.update().where(*which).values(revoked_at=at)).rowcount == 0:
        raise RefusedError(f"the tenant has no write key {key_id} that is in use: nothing was changed")


def by_public_id(connection: sa.Connection, public_id: str) -> Site | None:
    """The active site that payloads name so, of whatever tenant."""
    # PostgreSQL refuses to be asked for what a payload may hold.
    if not _VISIBLE.fullmatch(public_id):
        return None
    return _found(connection, sa.and_(sites.c.public_id == public_id, sites.c.status == "active"))


def by_key(connection: sa.Connection, token: str) -> Site | None:
    """The site whose write key this is, a closed one too; None for what is no key, or a revoked one."""
    same = sa.and_(site_keys.c.tenant_id == sites.c.tenant_id, site_keys.c.site_id == sites.c.id)
    ours = sa.select(site_keys.c.id).where(
        same, site_keys.c.key_hash == _hash(token), site_keys.c.revoked_at.is_(None)
    )
    return _found(connection, ours.exists())


def change_origins(
    connection: sa.Connection, site: Site, origins: Sequence[str], *, actor: str, at: datetime
) -> None:
    """Browsers may send from these origins, and from no other, once doors that know the site have forgotten it.

    Raises RefusedError for a closed site.
    """
    tenancy.service(connection, site.tenant_id)
    which = (sites.c.tenant_id == site.tenant_id, sites.c.id == site.id, sites.c.status == "active")
    if connection.execute(sites.update().where(*which).values(origins=list(origins))).rowcount == 0:
        raise RefusedError(f"site {site.public_id} is closed: nothing was changed")
    audit.append(
        connection, site.tenant_id, "site_origins_changed", actor=actor, at=at, site_id=site.id,
        before=list(site.origins), origins=list(origins),
    )  # fmt: skip


def _found(connection: sa.Connection, condition: Any) -> Site | None:
    tenancy.service(connection)
    row = connection.execute(sa.select(*sites.c).where(condition)).first()
    return _site(row) if row else None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _site(row: sa.Row[Any]) -> Site:
    return Site(row.tenant_id, row.id, row.public_id, row.name, row.status, tuple(row.origins))
