"""An HTTP door in this process, and requests to it as a client sends them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import uvicorn

from kernel.usage import arrivals, server, sites
from kernel.usage.answers import Build
from kernel.usage.http import Door, app
from tests.integration.usage.capturing import AT, Shop

BUILD = Build("2.1.0", "abc", "main")


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> datetime:
        return self.now

    def ticks(self) -> float:
        return self.now.timestamp()

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    def has(self, **headers: str | None) -> bool:
        """Names with _ for -, without their x-opsmantik."""
        return all(
            self.headers.get(f"x-opsmantik-{name.replace('_', '-')}") == value
            for name, value in headers.items()
        )


@dataclass
class Client:
    port: int
    shop: Shop
    token: str
    clock: Clock
    uvicorn: uvicorn.Server

    def send(
        self,
        body: Any,
        *,
        token: str | None = "",
        method: str = "POST",
        path: str = "/api/sync",
        **headers: str,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        if token is not None:
            headers["authorization"] = f"Bearer {token or self.token}"
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, sent, headers)
            got = connection.getresponse()
            return Answer(got.status, got.headers, got.read().decode())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.send(b"", method="GET", path=path, token=None)

    def event(self, name: str, **fields: Any) -> dict[str, Any]:
        given = {
            "s": self.shop.site.public_id,
            "url": f"https://x.co/{name}",
            "ec": "page",
            "ea": "view",
            "sid": "v",
        }
        return given | fields

    def counted(self, name: str) -> int:
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(f"billing_ingest_{name}_total "):
                return int(line.split()[1])
        raise AssertionError(f"{name} is not counted")


@contextmanager
def opened(shop: Shop, origins: tuple[str, ...] = (), **given: Any) -> Iterator[Client]:
    clock = Clock()
    with shop.engine.begin() as connection:
        token = sites.make_key(connection, shop.site, actor="ann", at=AT).token
    if origins:
        shop.pinned("update usage.sites set origins = :origins", origins=list(origins))
    listener = server.listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    engine = given.pop("engine", None) or arrivals.engine(
        shop.engine.url.render_as_string(hide_password=False), 6
    )
    door = Door(engine, BUILD, **({"clock": clock, "ticks": clock.ticks} | given))
    made = uvicorn.Server(
        uvicorn.Config(app(door), log_level="error", lifespan="on", timeout_graceful_shutdown=20)
    )
    thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        until = time.monotonic() + 10
        while not made.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        yield Client(port, shop, token, clock, made)
    finally:
        made.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
