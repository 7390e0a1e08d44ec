"""What adapters over HTTP have in common: a call, and what its answer means. How bytes travel stands in kernel.http."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from kernel.delivery.providers.base import LookupFailed, Outcome, rejected, unknown
from kernel.http import Answer, Client, NoAnswer, NotSent, plain

LONGEST_WAIT = timedelta(hours=24)
KEPT_BYTES = 4096
_CODE = re.compile(r"[\w.-]{1,64}", re.ASCII)
# With these a provider says that it has not done it. Others, 408, 409, 425 and private ones, leave it open.
_REFUSALS = {400, *range(401, 408), *range(410, 419), *range(421, 424), 426, 428, 431, 451}


def secrets_of(*secrets: str) -> tuple[str, ...]:
    """What must never be kept; the empty secret is none."""
    return tuple(secret for secret in secrets if secret)


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


class Caller:
    """Calls of one account. `secrets` are taken out of everything that a service says."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        timeout: timedelta,
        secrets: tuple[str, ...],
        clock: Callable[[], datetime],
    ) -> None:
        # Some services turn away whoever does not say what it is.
        headers = {"User-Agent": "revenue-os"} | dict(headers)
        self._client = Client(base_url, headers=headers, timeout_seconds=timeout.total_seconds())
        self._secrets, self._clock = secrets, clock

    def ask(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer | Outcome:  # fmt: skip
        """The answer; where there is none, what that means for what was asked."""
        try:
            return self._client.ask(method, path, content, headers)
        except NotSent as error:
            return rejected("not_sent", f"the service cannot be reached: {error}", retryable=True)
        except NoAnswer as error:
            return unknown("no_answer", f"no answer: {error}")

    def post(
        self,
        path: str,
        content: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        message_id: Callable[[Any], object] = lambda body: body["id"],
    ) -> Outcome:
        answer = self.ask("POST", path, content, headers)
        return answer if isinstance(answer, Outcome) else self.outcome(answer, message_id)

    def post_json(self, path: str, value: Any, headers: Mapping[str, str] | None = None) -> Outcome:
        return self.post(path, encoded(value), {"Content-Type": "application/json"} | dict(headers or {}))

    def outcome(self, answer: Answer, message_id: Callable[[Any], object]) -> Outcome:
        return classify(
            answer.status,
            answer.headers,
            answer.body,
            now=self._clock(),
            message_id=message_id,
            secrets=self._secrets,
        )

    def found(self, path: str, headers: Mapping[str, str] | None = None) -> Outcome | None:
        """What a look-up by reference finds; None for 404. Raises LookupFailed for every other answer."""
        answer = self.ask("GET", path, None, headers)
        if isinstance(answer, Outcome):
            raise LookupFailed(answer.error)
        if answer.status == 404:
            return None
        told = self.outcome(answer, lambda body: body["id"])
        if told.state != "accepted":
            raise LookupFailed(told.error or f"the service answered {answer.status}")
        return told


def encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    message_id: Callable[[Any], object] = lambda body: body["id"],
    secrets: tuple[str, ...] = (),
) -> Outcome:
    """What an answer says of the message. `headers` by names in lower case.

    An id makes it accepted; a refusal that is certain makes it rejected; everything else is unknown.
    """
    value = parsed(body)
    kept = kept_response(value, body, secrets)
    if 200 <= status < 300:
        id_ = identifier(value, message_id, secrets)
        if id_ is None:
            return replace(
                unknown("no_id", f"answered {status} without an id", http_status=status), response=kept
            )
        return Outcome("accepted", message_id=id_, http_status=status, response=kept)
    code, why = _reason(value, body, status, secrets)
    if status == 429:
        wait = retry_after(headers.get("retry-after", ""), now)
        told = rejected(code, why, retryable=True, retry_after=wait, http_status=status)
    elif status in (401, 403):
        told = rejected("credentials", why, http_status=status)
    elif status in _REFUSALS:
        told = rejected(code, why, http_status=status)
    else:
        told = unknown(code, why, http_status=status)
    return replace(told, response=kept)


def parsed(body: bytes) -> Any:
    """The JSON of a body; None for what is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def identifier(value: Any, message_id: Callable[[Any], object], secrets: tuple[str, ...] = ()) -> str | None:
    """The provider's id of a message; None when there is none that can be kept."""
    try:
        id_ = message_id(value)
    except (KeyError, TypeError, IndexError, AttributeError):
        return None
    if isinstance(id_, bool) or not isinstance(id_, str | int):
        return None
    told = str(id_)
    return told if 0 < len(told) <= 255 and plain(told) == told == _clean(told, secrets) else None


def retry_after(told: str, now: datetime) -> timedelta | None:
    """Seconds or a date, between nothing and LONGEST_WAIT; None for what is neither."""
    if re.fullmatch(r"[0-9]{1,12}", told):
        wait = timedelta(seconds=min(int(told), LONGEST_WAIT.total_seconds()))
    else:
        try:
            at = parsedate_to_datetime(told)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    return max(timedelta(0), min(wait, LONGEST_WAIT))


def kept_response(value: Any, body: bytes, secrets: tuple[str, ...]) -> Mapping[str, Any] | None:
    """Of a response what a database takes, without secrets: JSON that is small enough, else the beginning as text."""
    if not body:
        return None
    try:
        clean = _clean(value, secrets)
        if clean is not None and len(json.dumps(clean, ensure_ascii=False).encode()) <= KEPT_BYTES:
            return clean if isinstance(clean, dict) else {"body": clean}
    except RecursionError:
        pass
    text = _clean(plain(body.decode(errors="replace")), secrets)
    return {"text": text.encode()[:KEPT_BYTES].decode(errors="ignore")}


def _reason(value: Any, body: bytes, status: int, secrets: tuple[str, ...]) -> tuple[str, str]:
    """The provider's own code and sentence, where it has them."""
    fields = value if isinstance(value, dict) else {}
    codes = (
        str(fields[name]) for name in ("name", "code", "error") if isinstance(fields.get(name), str | int)
    )
    code = next((code for code in codes if _CODE.fullmatch(code)), f"http_{status}")
    message = fields.get("message") or body[:KEPT_BYTES].decode(errors="replace")
    why = told(str(message), secrets)
    return _clean(code, secrets), f"answered {status}: {why}" if why else f"answered {status}"


def told(text: str, secrets: tuple[str, ...]) -> str:
    """What a service said, as one line without secrets, up to 500 characters."""
    return plain(_clean(text, secrets))[:500]


def _clean(value: Any, secrets: tuple[str, ...]) -> Any:
    """Without secrets, NUL, half characters, and numbers that are none."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "[secret]")
        return value.replace("\0", " ").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_clean(str(name), secrets): _clean(held, secrets) for name, held in value.items()}
    if isinstance(value, list):
        return [_clean(held, secrets) for held in value]
    if isinstance(value, float) and not -1e308 < value < 1e308:
        return str(value)
    return value
