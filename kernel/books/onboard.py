"""A new tenant whose books are ready: a chart of accounts, bank accounts, an owner, settings, and a token for programs.

Nothing is posted by itself for a new tenant, whatever its template asks for: that is earned in `stages`.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import chain, members, tenancy
from kernel.books import chart, people, settings
from kernel.errors import RefusedError
from models.books import accounts, books_audit
from models.books_release import api_tokens
from models.spine import tenants

PREFIX = "sk_pilot_"
_LONGEST_SLUG = 40
_EVENT = "tenant_onboarded"


@dataclass(frozen=True, slots=True)
class Template:
    """What a tenant begins with; it may be set otherwise at any time."""

    chart: str
    autopost_requested: bool
    threshold: Decimal
    coldstart_min_labels: int
    llm_tenant_cap_usd: Decimal


TEMPLATES = {
    "starter": Template("standard_small_business", False, Decimal("0.90"), 3, Decimal(50)),
    "pro": Template("standard_professional_services", True, Decimal("0.92"), 5, Decimal(100)),
    "firm": Template("gaap_accounting_firm", True, Decimal("0.95"), 7, Decimal(250)),
}


@dataclass(frozen=True, slots=True)
class Onboarded:
    """`token` is shown this once: only its hash is kept. None for a tenant that was onboarded before (`is_new` False).

    `accounts` counts the chart, of which `preset_accounts` are the template's.
    """

    tenant_id: UUID
    slug: str
    owner: str
    template: str
    preset_accounts: int
    accounts: int
    token: str | None
    is_new: bool


def onboard(
    connection: sa.Connection,
    template: str,
    name: str,
    *,
    external_key: str,
    at: datetime,
    currency: str = "USD",
    actor: str = people.OPERATOR,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Onboarded:
    """Makes the tenant of this name and key, once: asked again it is found, and nothing is changed or shown.

    `external_key` is what the asker knows it by. Raises RefusedError for an unknown template, for a name that cannot be
    shown, and for a tenant that was onboarded with another template.
    """
    if template not in TEMPLATES:
        raise RefusedError(f"template {template!r} is unknown: use {', '.join(TEMPLATES)}")
    chosen = TEMPLATES[template]
    slug = slug_of(name, external_key)
    tenancy.service(connection)
    # Of two who ask for the same at once, the second finds what the first made.
    connection.execute(
        sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"onboard:{slug}", 0)))
    )
    known = connection.scalar(sa.select(tenants.c.id).where(tenants.c.slug == slug))
    if known is not None:
        return _found(connection, known, slug, template, name, external_key)
    tenant_id = tenancy.create(connection, slug, name, currency)
    owner, user_id = f"pilot+{slug}@example.com", uuid4()
    members.add(connection, tenant_id, user_id, owner, "owner")
    count = chart.load(connection, tenant_id, chosen.chart, currency)
    wanted = {
        "autopost_requested": chosen.autopost_requested,
        "threshold": chosen.threshold,
        "coldstart_min_labels": chosen.coldstart_min_labels,
        "llm_tenant_cap_usd": chosen.llm_tenant_cap_usd,
    }
    settings.change(
        connection, tenant_id, wanted, author=people.OPERATOR, reason=f"template {template}", at=at
    )
    token = _token(connection, tenant_id, user_id, at=at, random=random)
    chain.append(
        connection, books_audit, tenant_id, _EVENT, actor=actor, at=at, template=template, name=name,
        external_key=external_key, owner=owner,
    )  # fmt: skip
    preset = len(chart.PRESETS[chosen.chart].accounts)
    return Onboarded(tenant_id, slug, owner, template, preset, count, token, True)


def slug_of(name: str, external_key: str) -> str:
    """`pilot-<name>-<8 hex>`: letters a to z, digits and hyphens, the same for the same name and key.

    The hexadecimal digits are the first of the SHA-256 of name, NUL and key.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    # Dots and commas stand within a word, everything else between words.
    words = re.sub(r"[^a-z0-9]+", "-", re.sub(r"[.,']", "", plain)).strip("-")
    told = hashlib.sha256(f"{name}\0{external_key}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return "-".join(filter(None, ("pilot", words[:_LONGEST_SLUG].strip("-"), told)))


def whose(connection: sa.Connection, token: str) -> tuple[UUID, UUID] | None:
    """The tenant and the person that a token stands for; None for what is no token, or a revoked one."""
    tenancy.service(connection)
    held = sa.select(api_tokens.c.tenant_id, api_tokens.c.user_id).where(
        api_tokens.c.token_hash == _hash(token), api_tokens.c.revoked_at.is_(None)
    )
    row = connection.execute(held).one_or_none()
    return (row.tenant_id, row.user_id) if row else None


def _found(
    connection: sa.Connection, tenant_id: UUID, slug: str, template: str, name: str, external_key: str
) -> Onboarded:
    tenancy.service(connection, tenant_id)
    query = sa.select(books_audit.c.detail).where(
        books_audit.c.tenant_id == tenant_id, books_audit.c.event == _EVENT
    )
    told = connection.execute(query).scalar()
    if told is None or (told["name"], told["external_key"]) != (name, external_key):
        raise RefusedError(f"slug {slug!r} is taken by another tenant: give another external key")
    if told["template"] != template:
        raise RefusedError(f"{name!r} was onboarded with template {told['template']}: nothing was changed")
    preset = chart.PRESETS[TEMPLATES[template].chart]
    counted = sa.select(sa.func.count()).select_from(accounts).where(accounts.c.tenant_id == tenant_id)
    count = connection.execute(counted).scalar_one()
    return Onboarded(tenant_id, slug, told["owner"], template, len(preset.accounts), count, None, False)


def _token(
    connection: sa.Connection,
    tenant_id: UUID,
    user_id: UUID,
    *,
    at: datetime,
    random: Callable[[int], bytes],
) -> str:
    """A token of 256 random bits."""
    token = PREFIX + base64.urlsafe_b64encode(random(32)).decode().rstrip("=")
    row = {
        "tenant_id": tenant_id, "user_id": user_id, "token_hash": _hash(token), "hint": f"{PREFIX}…{token[-4:]}",
        "created_at": at,
    }  # fmt: skip
    connection.execute(api_tokens.insert().values(row))
    return token


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
