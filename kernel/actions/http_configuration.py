"""The adapter to a configuration service that speaks HTTP and JSON. What an answer means for an action: `dispatch`.

GET {base}/{tenant}/{subsystem}/{entity type}/{entity id} answers {"fields": {field: {"value", "changed_by"}}};
PUT {base}/.../{field} takes {"value"} under an Idempotency-Key header, and applies a key once.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import time
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import JsonValue

from kernel.actions.configuration import Address, Denied, InDoubt, Rejected, Transient, Value

_LARGEST_ANSWER = 1 << 20  # bytes; the configuration of one entity is a few hundred
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it


class HttpConfiguration:
    """One connection per request: a request that failed leaves nothing half-read behind.

    `timeout_seconds` is for the whole of it, to the last byte of the answer.
    """

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
        return Value(found.get("value"), str(found.get("changed_by") or ""), entity)

    def write(self, address: Address, value: JsonValue, idempotency_key: str) -> None:
        path = f"{self._entity_path(address)}/{quote(address.field, safe='')}"
        self._ask("PUT", path, address, {"value": value}, {"Idempotency-Key": idempotency_key})

    def _fields(self, address: Address) -> dict[str, dict[str, Any]]:
        try:
            fields = json.loads(self._ask("GET", self._entity_path(address), address))["fields"]
            _expect_storable(fields)
            return {str(field): dict(found) for field, found in fields.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Transient(
                f"{address}: the service answered what is no configuration: {_plain(error)}"
            ) from error

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
        until = time.monotonic() + self._timeout
        connection.response_class = partial(_timed, until=until)
        try:
            try:
                connection.connect()
                connection.sock.settimeout(max(until - time.monotonic(), 0.001))
            except OSError as error:
                raise Transient(f"{address}: the service cannot be reached: {_plain(error)}") from error
            try:
                content = json.dumps(body).encode() if body is not None else None
                given = self._headers | {"Content-Type": "application/json"} | (headers or {})
                connection.request(method, path, content, given)
                answer = connection.getresponse()
                text = answer.read(_LARGEST_ANSWER)
            except (OSError, http.client.HTTPException) as error:
                # From the first byte sent on, a change may have been taken.
                lost = InDoubt if method == "PUT" else Transient
                raise lost(
                    f"{address}: no answer to {method}: {_plain(error) or type(error).__name__}"
                ) from error
        finally:
            connection.close()
        _refuse(answer.status, method, address, text)
        return text


def _refuse(status: int, method: str, address: Address, text: bytes) -> None:
    """Raises for every answer but success. After a PUT a redirection, a conflict, or a server error leaves open what was
    done."""
    if 200 <= status < 300:
        return
    told = f"{address}: the service answered {status} {_plain(text[:200].decode(errors='replace'))}".strip()
    if status in (401, 403):
        raise Denied(f"{told}: check the token and its rights")
    if status == 409 or (method == "PUT" and (status < 400 or status >= 500)):
        raise InDoubt(told)
    if status in (408, 425, 429) or status >= 500:
        raise Transient(told)
    raise Rejected(told)


def _expect_storable(fields: Any) -> None:
    """Raises ValueError for what JSON lets through and a database does not keep: NaN, infinity, NUL, half characters."""
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False)
    text.encode()
    if _NUL.search(text):
        raise ValueError("a text in it holds the character NUL")


def _plain(told: object) -> str:
    """What a service or a library said, as one line that a log and a database take."""
    return "".join(character if character.isprintable() else " " for character in str(told)).strip()


class _Timed(io.RawIOBase):
    """The bytes of a socket up to an instant of time.monotonic(): a service that sends them one by one gains no time."""

    def __init__(self, connected: socket.socket, until: float) -> None:
        self._socket, self._until = connected, until
        self._bytes = connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._socket.settimeout(left)
        return self._bytes.readinto(buffer)

    def close(self) -> None:
        self._bytes.close()
        super().close()

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


def _timed(connected: socket.socket, *, until: float, **given: Any) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(_Timed(connected, until), **given)  # type: ignore[arg-type]
