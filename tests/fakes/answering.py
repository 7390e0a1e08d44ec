"""A server that answers as a test says, byte by byte."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def answering(pieces: Callable[[bytes], Iterable[bytes]]) -> Iterator[str]:
    """The address of a server that answers each request with these pieces of bytes, and hangs up."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                for piece in pieces(_request(self.request)):
                    self.request.sendall(piece)
            except OSError:
                pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _request(connected: socket.socket) -> bytes:
    """A request, up to a megabyte of it."""
    came = b""
    while len(came) < 1 << 20:
        head, ended, body = came.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
        if ended and len(body) >= int(length[1] if length else 0):
            break
        piece = connected.recv(1 << 16)
        if not piece:
            break
        came += piece
    return came
