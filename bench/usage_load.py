"""Requests to the HTTP door of usage, from a process of their own: every event is another one.

`python -m bench.usage_load URL TOKEN SITE CONNECTIONS EVENTS SECONDS RATE` prints what came of them as JSON. With a rate,
requests are due at their times whether the door keeps up or not, and a request's time counts from when it was due.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Load:
    url: str
    token: str
    site: str
    connections: int
    events: int
    seconds: float
    rate: float  # requests a second; 0 for as many as are answered
    took: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0

    async def run(self) -> dict[str, object]:
        numbers, run = itertools.count(), uuid.uuid4().hex
        start = time.perf_counter() + 0.2
        await asyncio.gather(*(self._client(start, index, numbers, run) for index in range(self.connections)))
        took = sorted(self.took)
        return {
            "requests": len(took),
            "seconds": time.perf_counter() - start,
            "acknowledged": self.acknowledged,
            "p50_ms": 1000 * took[len(took) // 2],
            "p99_ms": 1000 * took[len(took) * 99 // 100],
            "statuses": dict(self.statuses),
        }

    async def _client(self, start: float, index: int, numbers: itertools.count[int], run: str) -> None:
        place = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        due = start + (index / self.rate if self.rate else 0)
        while True:
            request = self._request(numbers, run)
            if self.rate:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                begun, due = due, due + self.connections / self.rate
            else:
                begun = time.perf_counter()
            if begun > start + self.seconds:
                break
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            self.took.append(time.perf_counter() - begun)
            status = head[9:12].decode()
            self.statuses[status] += 1
            self.acknowledged += self._taken(body) if status == "200" else 0
        writer.close()

    def _taken(self, body: bytes) -> int:
        answer = json.loads(body)
        return sum(each["status"] == "queued" for each in answer["results"]) if self.events > 1 else 1

    def _request(self, numbers: itertools.count[int], run: str) -> bytes:
        made = [self._event(next(numbers), run) for _ in range(self.events)]
        body = json.dumps(made if self.events > 1 else made[0]).encode()
        head = (
            f"POST /api/sync HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _event(self, number: int, run: str) -> dict[str, object]:
        return {
            "s": self.site, "url": f"https://shop.example/p/{number % 997}", "ec": "interaction", "ea": "view",
            "el": "product", "sid": f"session {number % 5000}", "meta": {"fp": f"{run}.{number}"}, "ev": 1,
        }  # fmt: skip


if __name__ == "__main__":
    url, token, site, connections, events, seconds, rate = sys.argv[1:]
    load = Load(url, token, site, int(connections), int(events), float(seconds), float(rate))
    print(json.dumps(asyncio.run(load.run())))
