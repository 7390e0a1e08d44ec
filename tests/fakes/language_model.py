"""A service that speaks chat completions as language models do, and says what a test has it say."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USED = {"prompt_tokens": 200, "completion_tokens": 2}


@dataclass
class Service:
    """`said` by vendor, `otherwise` of others. With another `status` it refuses, and repeats what it was sent."""

    said: dict[str, str] = field(default_factory=dict)
    otherwise: str = "none"
    used: Any = field(default_factory=lambda: dict(USED))
    status: int = 200
    seconds: float = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    address: str = ""

    @property
    def vendors(self) -> list[str]:
        return [json.loads(each["messages"][1]["content"])["counterparty"] for each in self.asked]

    def _answer(self, told: dict[str, Any], key: str | None) -> bytes:
        if self.status != 200:
            return json.dumps({"error": {"message": f"{key} may not ask"}}).encode()
        said = self.said.get(json.loads(told["messages"][1]["content"])["counterparty"], self.otherwise)
        return json.dumps({"choices": [{"message": {"content": said}}], "usage": self.used}).encode()


@contextmanager
def serving(**given: Any) -> Iterator[Service]:
    service = Service(**given)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.asked.append(told)
            body = service._answer(told, self.headers["Authorization"])
            time.sleep(service.seconds)
            try:
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        service.address = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
