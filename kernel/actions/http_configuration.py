"""The adapter to a configuration service that speaks HTTP and JSON. What an answer means for an action: `dispatch`.

GET {base}/{tenant}/{subsystem}/{entity type}/{entity id} answers {"fields": {field: {"value", "changed_by"}}};
PUT {base}/.../{field} takes {"value"} under an Idempotency-Key header, and applies a key once.
"""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import JsonValue

from kernel.actions.configuration import Address, Denied, InDoubt, Rejected, Transient, Value

_LARGEST_ANSWER = 1 << 20  # bytes; the configuration of one entity is a few hundred


class HttpConfiguration:
    """One connection per request: a request that failed leaves nothing half-read behind."""

    def __init__(self, base_url: str, *, token: str = "", timeout_seconds: float = 10) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is no address of a configuration service: use https://host/path")
        secure = parts.scheme == "https"
        self._connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout_seconds

    def read(self, address: Address) -> Value:
        fields = self._fields(address)
        found = fields.get(address.field) or {}
        entity = {field: held.get("value") for field, held in fields.items()}
        return Value(found.get("value"), found.get("changed_by") or "", entity)

    def write(self, address: Address, value: JsonValue, idempotency_key: str) -> None:
        path = f"{self._entity_path(address)}/{quote(address.field, safe='')}"
        self._ask("PUT", path, address, {"value": value}, {"Idempotency-Key": idempotency_key})

    def _fields(self, address: Address) -> dict[str, dict[str, Any]]:
        try:
            fields = json.loads(self._ask("GET", self._entity_path(address), address))["fields"]
            return {str(field): dict(found) for field, found in fields.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Transient(f"{address}: the service answered what is no configuration: {error}") from error

    def _entity_path(self, address: Address) -> str:
        parts = (str(address.tenant_id), address.subsystem, address.entity_type, address.entity_id or "-")
        return f"{self._path}/{'/'.join(quote(part, safe='') for part in parts)}"

    def _ask(
        self,
        method: str,
        path: str,
        address: Address,
        body: dict[str, JsonValue] | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        connection = self._connect(self._host, self._port, timeout=self._timeout)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise Transient(f"{address}: the service cannot be reached: {error}") from error
            try:
                content = json.dumps(body).encode() if body is not None else None
                given = self._headers | {"Content-Type": "application/json"} | (headers or {})
                connection.request(method, path, content, given)
                answer = connection.getresponse()
                text = answer.read(_LARGEST_ANSWER)
            except (OSError, http.client.HTTPException) as error:
                # From the first byte sent on, a change may have been taken.
                lost = InDoubt if method == "PUT" else Transient
                raise lost(f"{address}: no answer to {method}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        _refuse(answer.status, method, address, text)
        return text


def _refuse(status: int, method: str, address: Address, text: bytes) -> None:
    """Raises for every answer but success. A server error or a conflict after a PUT leaves open what was done."""
    if 200 <= status < 300:
        return
    told = f"{address}: the service answered {status} {text[:200].decode(errors='replace')}".strip()
    if status in (401, 403):
        raise Denied(f"{told}: check the token and its rights")
    if status == 409 or (status >= 500 and method == "PUT"):
        raise InDoubt(told)
    if status in (408, 425, 429) or status >= 500:
        raise Transient(told)
    raise Rejected(told)
