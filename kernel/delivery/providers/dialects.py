"""How requests to the simulator are read and answered, and what its callbacks look like, by provider."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from kernel.delivery.providers import signatures, twilio
from kernel.delivery.providers.effects import Effect


@dataclass(frozen=True, slots=True)
class Callback:
    url: str
    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dialect:
    """`read` gives references and addresses, and raises ValueError, KeyError or TypeError for what is no request.

    `callback` gets an effect, the request's headers and body, the address and secret for callbacks, and the time.
    """

    read: Callable[[bytes], list[tuple[str, str]]]
    answer: Callable[[Sequence[Effect]], Any]
    callback: Callable[[Effect, Mapping[str, str], bytes, str, str, datetime], Callback | None]


def of(path: str) -> Dialect | None:
    """By what follows the mode and the account in the path of a request."""
    if path.startswith("/2010-04-01/Accounts/") and path.endswith("/Messages.json"):
        return Dialect(_read_form, lambda effects: {"sid": f"SM{effects[0].id}", "status": "queued"}, _twilio)
    return {
        "/emails": Dialect(lambda body: [_email(json.loads(body))], _one, _resend),
        "/emails/batch": Dialect(
            lambda body: [_email(email) for email in json.loads(body)],
            lambda effects: {"data": [{"id": effect.id} for effect in effects]},
            _resend,
        ),
        "/call": Dialect(_read_call, _one, _vapi),
        "/messages": Dialect(_read_message, _one, lambda *_: None),
    }.get(path)


def _one(effects: Sequence[Effect]) -> dict[str, str]:
    return {"id": effects[0].id}


def _email(email: Any) -> tuple[str, str]:
    tags = {tag["name"]: tag["value"] for tag in email.get("tags", [])}
    return str(tags.get("reference", "")), str(email["to"][0])


def _read_form(body: bytes) -> list[tuple[str, str]]:
    fields = dict(parse_qsl(body.decode()))
    query = parse_qs(urlsplit(fields.get("StatusCallback", "")).query)
    return [(query.get("reference", [""])[0], fields["To"])]


def _read_call(body: bytes) -> list[tuple[str, str]]:
    call = json.loads(body)
    return [(str(call.get("metadata", {}).get("reference", "")), str(call["customer"]["number"]))]


def _read_message(body: bytes) -> list[tuple[str, str]]:
    message = json.loads(body)
    return [(str(message["reference"]), str(message["to"]))]


def _resend(
    effect: Effect, _headers: Mapping[str, str], _body: bytes, url: str, secret: str, now: datetime
) -> Callback | None:  # fmt: skip
    if not url:
        return None
    event = {
        "type": "email.delivered",
        "created_at": now.isoformat(),
        "data": {
            "email_id": effect.id,
            "to": [effect.address],
            "tags": [{"name": "reference", "value": effect.reference}],
        },
    }
    content, id_, timestamp = json.dumps(event).encode(), f"msg_{effect.id}", str(int(now.timestamp()))
    signed = signatures.svix(secret, id_, timestamp, content)
    headers = {"svix-id": id_, "svix-timestamp": timestamp, "svix-signature": f"v1,{signed}"}
    return Callback(url, content, headers | {"Content-Type": "application/json"})


def _twilio(
    effect: Effect, headers: Mapping[str, str], body: bytes, _url: str, _secret: str, now: datetime
) -> Callback | None:  # fmt: skip
    """To the address that came with the request, signed with the token that came with it."""
    url = dict(parse_qsl(body.decode())).get("StatusCallback")
    if not url:
        return None
    token = (
        base64.b64decode(headers.get("authorization", "").removeprefix("Basic ")).decode().partition(":")[2]
    )
    fields = [("MessageSid", f"SM{effect.id}"), ("MessageStatus", "delivered"), ("To", effect.address)]
    return Callback(
        url,
        urlencode(fields).encode(),
        {
            "X-Twilio-Signature": twilio.signature(token, url, fields),
            "Content-Type": "application/x-www-form-urlencoded",
        },
    )


def _vapi(
    effect: Effect, _headers: Mapping[str, str], _body: bytes, url: str, secret: str, now: datetime
) -> Callback | None:  # fmt: skip
    if not url:
        return None
    call = {
        "id": effect.id,
        "metadata": {"reference": effect.reference},
        "customer": {"number": effect.address},
    }
    message = {
        "type": "status-update",
        "status": "in-progress",
        "timestamp": now.timestamp() * 1000,
        "call": call,
    }
    headers = {"X-Vapi-Secret": secret, "Content-Type": "application/json"}
    return Callback(url, json.dumps({"message": message}).encode(), headers)
