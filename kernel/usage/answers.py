"""What the HTTP door answers: the status, body and headers of each outcome, which clients rely on.

The two refusals with status 429 are told apart by their headers. When which answer is given stands in `http`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.responses import Response

from kernel.usage.events import Outcome
from kernel.usage.keys.payload import InvalidPayloadError

# What became of an item of a request.
Item = Outcome | InvalidPayloadError
_BUSY_SECONDS = 1
# What a script of another origin may read of an answer.
_EXPOSED = (
    "retry-after, x-opsmantik-dedup, x-opsmantik-degraded, x-opsmantik-error-code, x-opsmantik-fallback,"
    " x-opsmantik-overage, x-opsmantik-quota-exceeded, x-opsmantik-quota-remaining, x-opsmantik-ratelimit,"
    " x-opsmantik-version"
)


@dataclass(frozen=True, slots=True)
class Build:
    """Which program answers: every answer says so."""

    version: str
    commit: str = "unknown"
    branch: str = "unknown"


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to one request, or to any where `origin` is None: the origin of a browser that may read them."""

    build: Build
    origin: str | None = None

    def single(self, outcome: Outcome, at: datetime) -> Response:
        headers = _quota(outcome, at) | {"x-opsmantik-dedup": str(int(outcome.status == "duplicate"))}
        told = _told(outcome)
        match outcome.status:
            case "rejected_quota":
                return self.made(429, {"ok": False, "score": 0} | told, headers)
            case "degraded":
                return self.made(
                    200, {"ok": True, "score": 0, "v": self.build.version} | told, headers | _DEGRADED
                )
            case "duplicate":
                told |= {"captured": True}
        return self.made(200, {"ok": True, "score": 10, "v": self.build.version} | told, headers)

    def batch(self, items: Sequence[Item], at: datetime) -> Response:
        """An outcome for each. The status is 200 unless every item was refused, and then that of what refused them."""
        counts = Counter(item.status if isinstance(item, Outcome) else "invalid" for item in items)
        outcomes = [item for item in items if isinstance(item, Outcome)]
        status = (
            200 if counts["queued"] + counts["duplicate"] + counts["degraded"] else 429 if outcomes else 400
        )
        headers = _quota(outcomes[-1], at) if outcomes else {}
        for outcome in outcomes:
            if outcome.is_overage or outcome.status == "rejected_quota":
                headers |= _quota(outcome, at)
        if counts["degraded"]:
            headers |= _DEGRADED
        body = {
            "ok": status == 200, "status": "batch", "v": self.build.version, "queued": counts["queued"],
            "duplicates": counts["duplicate"], "degraded": counts["degraded"],
            "rejected_quota": counts["rejected_quota"], "invalid": counts["invalid"],
            "results": [_told(item) if isinstance(item, Outcome) else _invalid(item) for item in items],
        }  # fmt: skip
        return self.made(status, body, headers)

    def invalid(self, error: InvalidPayloadError, status: int = 400) -> Response:
        told = {"ok": False, "error": error.code, "reason": str(error)}
        return self.made(status, told, {"x-opsmantik-error-code": error.code})

    def unauthorized(self, status: int, error: str, reason: str) -> Response:
        """401 for no write key, 403 for one that is not in use, a closed site, or an origin that is not the site's."""
        headers = {"www-authenticate": "Bearer"} if status == 401 else {}
        return self.made(status, {"ok": False, "error": error, "reason": reason}, headers)

    def rate_limited(self, seconds: float) -> Response:
        headers = {"x-opsmantik-ratelimit": "1", "retry-after": str(max(1, math.ceil(seconds)))}
        return self.made(429, {"ok": False, "error": "Rate limit"}, headers)

    def busy(self) -> Response:
        told = {"ok": False, "error": "busy", "reason": "Too much waits to be captured: send it again."}
        return self.made(503, told, {"retry-after": str(_BUSY_SECONDS)})

    def gate_closed(self) -> Response:
        """Nothing was metered: the same request may come again, and does not count twice when it does."""
        told = {"ok": False, "status": "billing_gate_closed"}
        return self.made(500, told, {"retry-after": str(_BUSY_SECONDS)})

    def preflight(self) -> Response:
        """Any origin may ask. Whether it may send is decided with its write key, which a preflight does not carry."""
        allowed = {
            "access-control-allow-methods": "POST",
            "access-control-allow-headers": "authorization, content-type",
            "access-control-max-age": "600",
        }
        return Response(status_code=204, headers=self._headers() | allowed)

    def made(self, status: int, body: Any, headers: dict[str, str]) -> Response:
        content = orjson.dumps(body)
        return Response(content, status, self._headers() | headers, media_type="application/json")

    def _headers(self) -> dict[str, str]:
        always = {
            "x-opsmantik-commit": self.build.commit,
            "x-opsmantik-branch": self.build.branch,
            "x-opsmantik-version": self.build.version,
            "vary": "Origin",
        }
        if self.origin is None:
            return always
        return always | {
            "access-control-allow-origin": self.origin,
            "access-control-expose-headers": _EXPOSED,
        }


_DEGRADED = {"x-opsmantik-degraded": "qstash_publish_failed", "x-opsmantik-fallback": "true"}


def seconds_to_next_month(at: datetime) -> int:
    """Until its first instant in UTC, rounded up."""
    utc = at.astimezone(UTC)
    first = utc.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = first.replace(year=first.year + utc.month // 12, month=utc.month % 12 + 1)
    return math.ceil((following - utc).total_seconds())


def _quota(outcome: Outcome, at: datetime) -> dict[str, str]:
    headers = {"x-opsmantik-quota-remaining": str(outcome.quota_remaining)}
    if outcome.status == "rejected_quota":
        return headers | {"x-opsmantik-quota-exceeded": "1", "retry-after": str(seconds_to_next_month(at))}
    return headers | {"x-opsmantik-overage": "true"} if outcome.is_overage else headers


def _told(outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {"status": outcome.status}
    if outcome.status != "rejected_quota":
        # The id under which the ledger and its exports hold the event; a duplicate was given it the first time.
        told["ingest_id"] = None if outcome.status == "duplicate" else outcome.key
    elif outcome.reason is not None:
        told["reason"] = outcome.reason
    return told | {"conflict": True} if outcome.is_conflict else told


def _invalid(error: InvalidPayloadError) -> dict[str, Any]:
    return {"status": "invalid", "error": error.code, "reason": str(error)}
