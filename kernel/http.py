"""One HTTP request with a deadline over all of it, and what was certainly not sent. What an answer means stands with
those who ask.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urlsplit

LARGEST_ANSWER = 1 << 20  # bytes of a body; what is longer is cut
_PIECE = 1 << 14  # bytes sent at a time, so that a peer that takes them slowly gains no time
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it


class NotSent(Exception):
    """The service cannot be reached: not one byte of the request was sent."""


class NoAnswer(Exception):
    """No whole answer came, and from the first byte on the request may have been carried out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, the headers by their names in lower case, and up to LARGEST_ANSWER bytes of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Deadline:
    """An instant of time.monotonic()."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds; raises TimeoutError when there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("it took too long")
        return left


def is_address(url: str) -> bool:
    """Whether a Client can be made of it."""
    try:
        _parts(url)
    except ValueError:
        return False
    return True


def _parts(url: str) -> SplitResult:
    parts = urlsplit(url)
    is_web = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    # To read a port that is none raises ValueError.
    if not is_web or not re.fullmatch("[!-~]*", url) or parts.port == 0:
        raise ValueError("this is no address of a service: use https://host/path")
    return parts


class Client:
    """One connection per request: a request that failed leaves nothing half-read behind.

    The deadline covers connecting, sending and the answer to its last byte; how long a name may take to resolve is the
    system's to say. Redirects are not followed. Raises ValueError for what is no address of the web; one with a user or
    a password in it is none.
    """

    def __init__(
        self, base_url: str, *, headers: Mapping[str, str] | None = None, timeout_seconds: float = 10
    ) -> None:
        parts = _parts(base_url)
        self._kind, self._context = http.client.HTTPConnection, None
        if parts.scheme == "https":
            self._kind, self._context = http.client.HTTPSConnection, ssl.create_default_context()
        self._host, self._port = parts.hostname, parts.port or self._kind.default_port
        self._path, self._query = parts.path, parts.query
        self._headers = dict(headers or {})
        self._timeout = timeout_seconds

    def ask(
        self, method: str, path: str = "", content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:  # fmt: skip
        """`path` is taken from the base address on, and may carry a query. Raises NotSent and NoAnswer."""
        deadline = Deadline(self._timeout)
        connection = _connection(self._kind)(self._host, self._port)
        connection.deadline = deadline
        connection.response_class = partial(_timed, deadline=deadline)
        try:
            connection.sock = self._connected(deadline)
            connection.request(method, self._target(path), content, self._headers | dict(headers or {}))
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read(LARGEST_ANSWER))
        except (OSError, http.client.HTTPException, ValueError) as error:
            failed = NoAnswer if connection.has_sent else NotSent
            # What HTTP has no place for is told by its kind alone: it may be a header with a secret in it.
            told = plain(error) if isinstance(error, OSError) else ""
            raise failed(told or type(error).__name__) from None
        finally:
            connection.close()

    def _connected(self, deadline: Deadline) -> socket.socket:
        made = connected(self._host, self._port, deadline)
        if self._context is None:
            return made
        try:
            made.settimeout(deadline.left())
            return self._context.wrap_socket(made, server_hostname=self._host)
        except BaseException:
            made.close()
            raise

    def _target(self, path: str) -> str:
        target = self._path.rstrip("/") + path if path else self._path or "/"
        return target + ("&" if "?" in target else "?") + self._query if self._query else target


def connected(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A connection to one of the host's addresses; each gets its share of the time left. Raises OSError."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(deadline.left() / (len(addresses) - index))
            made.connect(address)
            # A request goes out in two parts; the second must not wait for the first one's receipt.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        except OSError:
            made.close()
            if index == len(addresses) - 1:
                raise
    raise OSError("the host has no address")


def _connection(kind: type[http.client.HTTPConnection]) -> Any:
    class Timed(kind):  # type: ignore[misc, valid-type]
        deadline: Deadline
        has_sent = False

        def send(self, data: bytes) -> None:
            self.has_sent = True
            send_timed(self.sock, data, self.deadline.left)

    return Timed


def send_timed(connected: socket.socket, data: bytes, left: Callable[[], float]) -> None:
    """Raises OSError; then nobody knows how much of it was sent."""
    for start in range(0, len(data), _PIECE):
        connected.settimeout(left())
        connected.sendall(data[start : start + _PIECE])


class TimedReader(io.RawIOBase):
    """The bytes of a socket up to a deadline: a service that sends them one by one gains no time."""

    def __init__(self, connected: socket.socket, left: Callable[[], float]) -> None:
        self._socket, self._left = connected, left
        self._bytes = connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._left())
        return self._bytes.readinto(buffer)

    def close(self) -> None:
        self._bytes.close()
        super().close()

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


def _timed(connected: socket.socket, *, deadline: Deadline, **given: Any) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(TimedReader(connected, deadline.left), **given)  # type: ignore[arg-type]


def expect_storable(value: Any) -> None:
    """Raises ValueError for what JSON lets through and a database does not keep: NaN, infinity, NUL, half characters."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text.encode()
    if _NUL.search(text):
        raise ValueError("a text in it holds the character NUL")


def plain(told: object) -> str:
    """What a service or a library said, as one line that a log and a database take."""
    return "".join(character if character.isprintable() else " " for character in str(told)).strip()
