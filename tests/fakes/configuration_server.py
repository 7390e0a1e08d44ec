"""A configuration service in a thread: real sockets, faults on order, and a count of what was really changed."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote

Fault = Literal[
    "500", "500 after applying", "403", "422", "conflict", "timeout", "timeout after applying", "nonsense"
]


class ConfigurationServer:
    """`fields[entity path][field]` is what the service holds; `changes` counts changes by idempotency key.

    Faults queued in `write_faults` and `read_faults` are spent one a request.
    """

    def __init__(self) -> None:
        self.fields: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.knows_keys = True
        self.changes: Counter[str] = Counter()
        self.requests: list[tuple[str, str, str]] = []
        self.write_faults: list[Fault] = []
        self.read_faults: list[Fault] = []
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/configuration"

    @contextmanager
    def running(self) -> Iterator[ConfigurationServer]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._released.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def hang(self) -> None:
        """Keeps a request without an answer for longer than any client of a test waits."""
        self._released.wait(5)

    def put(self, entity: str, field: str, value: Any, key: str) -> None:
        if self.knows_keys and key in self.changes:
            return  # applied already: a key is good for one change
        self.fields[entity][field] = {"value": value, "changed_by": key}
        self.changes[key] += 1


def _handler(server: ConfigurationServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/configuration/")
            server.requests.append(("GET", path, ""))
            fault = server.read_faults.pop(0) if server.read_faults else None
            if not self._failed(fault):
                self._answer(200, {"fields": server.fields[path]})

        def do_PUT(self) -> None:
            entity, _, field = self.path.removeprefix("/configuration/").rpartition("/")
            key = self.headers["Idempotency-Key"]
            server.requests.append(("PUT", entity, key))
            value = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["value"]
            fault = server.write_faults.pop(0) if server.write_faults else None
            if fault is None or fault.endswith("after applying"):
                server.put(entity, unquote(field), value, key)
            if not self._failed(fault):
                self._answer(200, {})

        def _failed(self, fault: Fault | None) -> bool:
            if fault is None:
                return False
            if fault.startswith("timeout"):
                server.hang()
                self.close_connection = True
            elif fault == "nonsense":
                self._answer(200, ["no", "configuration"])
            else:
                self._answer(409 if fault == "conflict" else int(fault[:3]), {"error": fault})
            return True

        def _answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
