"""The adapter to a configuration service that speaks HTTP and JSON. What an answer means for an action: `dispatch`.

GET {base}/{tenant}/{subsystem}/{entity type}/{entity id} answers {"fields": {field: {"value", "changed_by"}}};
PUT {base}/.../{field} takes {"value"} under an Idempotency-Key header, and applies a key once.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from pydantic import JsonValue

from kernel import http
from kernel.actions.configuration import Address, Denied, InDoubt, Rejected, Transient, Value
from kernel.http import plain


class HttpConfiguration:
    """One connection per request: a request that failed leaves nothing half-read behind.

    `timeout_seconds` is for the whole of it, to the last byte of the answer.
    """

    def __init__(self, base_url: str, *, token: str = "", timeout_seconds: float = 10) -> None:
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        try:
            self._client = http.Client(base_url, headers=headers, timeout_seconds=timeout_seconds)
        except ValueError:
            raise ValueError(
                f"{base_url.rpartition('@')[2]!r} is no address of a configuration service: use https://host/path"
            ) from None

    def read(self, address: Address) -> Value:
        fields = self._fields(address)
        found = fields.get(address.field) or {}
        entity = {field: held.get("value") for field, held in fields.items()}
        return Value(found.get("value"), str(found.get("changed_by") or ""), entity)

    def write(self, address: Address, value: JsonValue, idempotency_key: str) -> None:
        path = f"{self._entity_path(address)}/{quote(address.field, safe='')}"
        self._ask("PUT", path, address, {"value": value}, {"Idempotency-Key": idempotency_key})

    def _fields(self, address: Address) -> dict[str, dict[str, Any]]:
        try:
            fields = json.loads(self._ask("GET", self._entity_path(address), address))["fields"]
            http.expect_storable(fields)
            return {str(field): dict(found) for field, found in fields.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Transient(
                f"{address}: the service answered what is no configuration: {plain(error)}"
            ) from error

    def _entity_path(self, address: Address) -> str:
        parts = (str(address.tenant_id), address.subsystem, address.entity_type, address.entity_id or "-")
        return f"/{'/'.join(quote(part, safe='') for part in parts)}"

    def _ask(
        self,
        method: str,
        path: str,
        address: Address,
        body: dict[str, JsonValue] | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        content = json.dumps(body).encode() if body is not None else None
        try:
            answer = self._client.ask(method, path, content, headers)
        except http.NotSent as error:
            raise Transient(f"{address}: the service cannot be reached: {error}") from error
        except http.NoAnswer as error:
            lost = InDoubt if method == "PUT" else Transient
            raise lost(f"{address}: no answer to {method}: {error}") from error
        _refuse(answer.status, method, address, answer.body)
        return answer.body


def _refuse(status: int, method: str, address: Address, text: bytes) -> None:
    """Raises for every answer but success. After a PUT a redirection, a conflict, or a server error leaves open what was
    done."""
    if 200 <= status < 300:
        return
    told = f"{address}: the service answered {status} {plain(text[:200].decode(errors='replace'))}".strip()
    if status in (401, 403):
        raise Denied(f"{told}: check the token and its rights")
    if status == 409 or (method == "PUT" and (status < 400 or status >= 500)):
        raise InDoubt(told)
    if status in (408, 425, 429) or status >= 500:
        raise Transient(told)
    raise Rejected(told)
