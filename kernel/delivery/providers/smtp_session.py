"""A connection to a mail server on which everything ends at a deadline. What is said on it stands in `smtp`."""

from __future__ import annotations

import select
import smtplib
import socket
import ssl

from kernel.http import Deadline, TimedReader, connected, send_timed


class Session(smtplib.SMTP):
    """One connection. Everything on it happens before the deadline of the message at hand."""

    def __init__(
        self, host: str, port: int, tls: str, *, domain: str, context: ssl.SSLContext | None
    ) -> None:
        super().__init__(local_hostname=domain)
        self._host, self._port, self._tls, self._context = host, port, tls, context
        self.has_sent = False

    def begin(self, deadline: Deadline) -> None:
        self._deadline, self.has_sent = deadline, False

    def open(self, user: str, secret: str) -> None:
        """Raises SMTPException and OSError."""
        code, told = self.connect(self._host, self._port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, told)
        if self._tls == "starttls":
            self.sock.settimeout(self._left())
            self.starttls(context=self._context)
        self.ehlo_or_helo_if_needed()
        if secret:
            self.login(user, secret)

    def send(self, data: bytes | str) -> None:
        content = data.encode(self.command_encoding) if isinstance(data, str) else data
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        try:
            send_timed(self.sock, content, self._left)
        except OSError as error:
            self.close()
            raise smtplib.SMTPServerDisconnected(str(error)) from None

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Lines(TimedReader(self.sock, self._left))
        return super().getreply()

    def is_in_step(self) -> bool:
        """Whether nothing has come that no command asked for; it would be taken for the reply to the next one."""
        if self.sock is None or self.file is None or self.file.rest:
            return False
        has_decrypted = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0
        waiting = select.poll()
        waiting.register(self.sock, select.POLLIN)
        return not has_decrypted and not waiting.poll(0)

    def _get_socket(self, host: str, port: int, timeout: object) -> socket.socket:
        made = connected(host, port, self._deadline)
        if self._tls != "ssl" or self._context is None:
            return made
        try:
            made.settimeout(self._left())
            return self._context.wrap_socket(made, server_hostname=host)
        except BaseException:
            made.close()
            raise

    def _left(self) -> float:
        return self._deadline.left()


class _Lines:
    """The lines of a connection. `rest` is what has come after the last one."""

    def __init__(self, reader: TimedReader) -> None:
        self._reader, self.rest = reader, b""

    def readline(self, most: int) -> bytes:
        while b"\n" not in self.rest and len(self.rest) < most:
            piece = self._reader.read(4096)
            if not piece:
                break
            self.rest += piece
        end = min(self.rest.find(b"\n") + 1 or len(self.rest), most)
        line, self.rest = self.rest[:end], self.rest[end:]
        return line

    def close(self) -> None:
        self._reader.close()
