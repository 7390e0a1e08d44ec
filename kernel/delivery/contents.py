"""What is said: versions of a campaign's content, who approved them, and the text each recipient gets."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import keys, plain
from kernel.delivery.providers.base import Message
from kernel.delivery.providers.content import begins_with_tag
from kernel.errors import RefusedError
from models.delivery import approvals, contents, provider_accounts
from models.spine import spine_campaigns

APPROVAL_AGE = timedelta(hours=72)
_LONGEST_BODY = 1 << 20  # bytes; mail servers take more, but nobody reads that
# {{name}}, or {{name|what stands there when it is not known}}.
_FIELD = re.compile(r"\{\{\s*([a-z_]+)\s*(?:\|([^{}]*))?\}\}")
_KNOWN = ("first_name", "last_name", "company", "address", "unsubscribe_url")


@dataclass(frozen=True, slots=True)
class Content:
    """One version. `sender` and `unsubscribe_base` are its account's; `unsubscribe_base` is None without such links.

    `plain_body` says in plain text what `body` says in HTML, which may be nothing; None where `body` is no HTML.
    """

    id: UUID
    channel: str
    subject: str
    body: str
    sender: str
    unsubscribe_base: str | None
    plain_body: str | None = None

    @classmethod
    def of(cls, row: sa.Row[Any]) -> Content:
        """Of a row that has the columns of a content beside `content_id` and those of its account."""
        return cls(
            row.content_id, row.channel, row.subject, row.body, row.sender, row.unsubscribe_base, row.plain_body
        )  # fmt: skip


def write(
    connection: sa.Connection,
    tenant_id: UUID,
    campaign_id: UUID,
    *,
    account: str,
    body: str,
    plain_body: str | None = None,
    subject: str = "",
    step: int = 1,
    author: str,
) -> UUID:
    """Stores a new version for the account's channel; its id. Raises RefusedError naming what cannot stand.

    Mail in HTML goes with a plain text beside it: `plain_body`, or what the HTML says without its tags.
    """
    tenancy.service(connection, tenant_id)
    by_name = sa.select(provider_accounts).where(
        provider_accounts.c.tenant_id == tenant_id, provider_accounts.c.name == account
    )
    found = connection.execute(by_name).one_or_none()
    if found is None:
        raise RefusedError(
            f"the tenant has no provider account {account!r}: see revenue-os campaign accounts -t TENANT"
        )
    campaign = sa.select(spine_campaigns.c.id).where(
        spine_campaigns.c.tenant_id == tenant_id, spine_campaigns.c.id == campaign_id
    )
    _expect_usable(found.channel, subject, body)
    plain_body = _plain_body(found.channel, body, plain_body)
    # Locked, so that two writers do not take one version.
    if connection.execute(campaign.with_for_update(key_share=True)).scalar() is None:
        raise RefusedError(
            f"the tenant has no campaign {campaign_id}: see revenue-os campaign list -t TENANT"
        )
    mine = sa.select(sa.func.coalesce(sa.func.max(contents.c.version), 0)).where(
        contents.c.tenant_id == tenant_id, contents.c.campaign_id == campaign_id,
        contents.c.channel == found.channel, contents.c.step == step,
    )  # fmt: skip
    version = connection.execute(mine).scalar_one() + 1
    stored = contents.insert().values(
        tenant_id=tenant_id, workspace_id=found.workspace_id, campaign_id=campaign_id, channel=found.channel,
        step=step, version=version, account_id=found.id, subject=subject, body=body,
        plain_body=plain_body, content_hash=content_hash(
            found.channel, found.id, found.sender, found.config.get("unsubscribe_base"), subject, body, plain_body
        ), created_by=author,
    )  # fmt: skip
    return connection.execute(stored.returning(contents.c.id)).scalar_one()


def approve(
    connection: sa.Connection,
    tenant_id: UUID,
    content_id: UUID,
    seen_hash: str,
    *,
    approver: str,
    at: datetime,
) -> datetime:
    """Approves what was seen; until when that is good. Raises RefusedError for one's own text and for another one."""
    tenancy.service(connection, tenant_id)
    query = sa.select(contents).where(contents.c.tenant_id == tenant_id, contents.c.id == content_id)
    found = connection.execute(query).one_or_none()
    if found is None:
        raise RefusedError(
            f"the tenant has no content {content_id}: see revenue-os campaign preview -t TENANT"
        )
    if found.content_hash != seen_hash:
        raise RefusedError(
            "the content is not what was shown: preview it again and approve what you see then"
        )
    if found.created_by == approver:
        raise RefusedError("whoever wrote a content may not approve it: ask somebody else")
    until = at + APPROVAL_AGE
    connection.execute(
        approvals.insert().values(
            tenant_id=tenant_id, content_id=content_id, content_hash=seen_hash, approved_by=approver, approved_at=at,
            expires_at=until,
        )
    )  # fmt: skip
    return until


def content_hash(
    channel: str,
    account_id: UUID,
    sender: str | None,
    unsubscribe_base: str | None,
    subject: str,
    body: str,
    plain_body: str | None = None,
) -> str:
    """What an approval binds to: everything a recipient sees. A launch works it out anew from the account of then."""
    fields = (channel, str(account_id), sender or "", unsubscribe_base or "", subject, body, plain_body or "")
    return keys.digest(*fields)


def rendered(content: Content, reference: str, address: str, variables: Mapping[str, str]) -> Message:
    """The message to one recipient: the same input gives the same bytes, which is what lets a call be repeated."""
    given = dict(variables) | {"address": address}
    # As it was written: what somebody is called makes no markup of a text.
    is_html = content.channel == "email" and begins_with_tag(content.body)
    headers = {}
    if content.unsubscribe_base:
        link = f"{content.unsubscribe_base}?r={quote(reference)}"
        given["unsubscribe_url"] = link
        headers = {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    return Message(
        reference=reference,
        channel=content.channel,
        sender=content.sender,
        address=address,
        subject=" ".join(_filled(content.subject, given, escape=False).split()),
        body=_filled(content.body, given, escape=is_html),
        is_html=is_html,
        plain_body=None if content.plain_body is None else _filled(content.plain_body, given, escape=False),
        headers=headers,
    )


def request_hash(message: Message) -> str:
    fields = [
        message.channel,
        message.sender,
        message.address,
        message.subject,
        message.body,
        message.plain_body or "",
    ]
    return keys.digest(*fields, *(f"{name}:{value}" for name, value in sorted(message.headers.items())))


def _plain_body(channel: str, body: str, given: str | None) -> str | None:
    if channel != "email" or not begins_with_tag(body):
        if given is not None:
            raise RefusedError("the body is no HTML of a mail: a plain text stands beside HTML alone")
        return None
    seen = plain.text_of(body)
    if "unsubscribe_url" in _fields(body) - _fields(seen):
        raise RefusedError(
            "nobody would see {{unsubscribe_url}} where it stands: make it a link with words, in no comment and nothing hidden"
        )
    if given is None:
        return seen
    _expect_fields(given)
    _expect_short("plain text", given)
    if not given.strip():
        raise RefusedError("the plain text is empty: leave it out, and it is made of the HTML")
    return given


def _filled(text: str, given: Mapping[str, str], *, escape: bool) -> str:
    def value(found: re.Match[str]) -> str:
        said = str(given.get(found[1]) or found[2] or "")
        return html.escape(said) if escape else said

    return _FIELD.sub(value, text)


def _expect_usable(channel: str, subject: str, body: str) -> None:
    if not body.strip():
        raise RefusedError("the content has no body: write what recipients are to read")
    _expect_short("body", body)
    if channel == "email" and not subject.strip():
        raise RefusedError("an email needs a subject: give one")
    _expect_fields(subject + body)


def _expect_short(what: str, text: str) -> None:
    if (size := len(text.encode(errors="surrogatepass"))) > _LONGEST_BODY:
        raise RefusedError(
            f"the {what} has {size} bytes: write at most {_LONGEST_BODY}, pictures stand elsewhere"
        )


def _fields(text: str) -> set[str]:
    return {found[1] for found in _FIELD.finditer(text)}


def _expect_fields(text: str) -> None:
    for found in _FIELD.finditer(text):
        if found[1] not in _KNOWN:
            raise RefusedError(f"{found[0]} names no field: use {', '.join(_KNOWN)}")
        if found[1] in ("first_name", "last_name", "company") and not (found[2] or "").strip():
            raise RefusedError(f"{found[0]} says nothing where it is not known: write {{{{{found[1]}|...}}}}")
    if "{{" in _FIELD.sub("", text):
        raise RefusedError(
            "the content has {{ without a field behind it: write fields as {{first_name|there}}"
        )
