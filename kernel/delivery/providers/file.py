"""Messages into files: one of JSON lines per call, for a system that picks them up. The name is the key's, so a call
that is repeated has one effect.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import field_validator

from kernel.delivery.providers import http as calls
from kernel.delivery.providers.adapter import Adapter, Config
from kernel.delivery.providers.base import Capabilities, Message, Outcome, rejected, unknown
from kernel.delivery.providers.content import sendable

# As good as for ever, and still an instant when it is added to one.
FOR_EVER = timedelta(days=36_500)


class FileConfig(Config):
    folder: str

    @field_validator("folder")
    @classmethod
    def _is_absolute(cls, folder: str) -> str:
        if not Path(folder).is_absolute():
            raise ValueError("the folder is not absolute")
        return folder


class File(Adapter):
    """Lines are {"id", "reference", "channel", "from", "to", "subject", "body", "headers"}; no file is ever changed."""

    Config = FileConfig
    capabilities = Capabilities(key_window=FOR_EVER, batch=1000, wave=1000, concurrency=2)

    def __init__(self, config: FileConfig, **given: Any) -> None:
        super().__init__(config, **given)
        self._folder = Path(config.folder)

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        return sendable(messages, lambda good: self._send(good, key))

    def _send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        name = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
        ids = [f"{name[:32]}-{place}" for place in range(len(messages))]
        content = b"".join(
            calls.encoded({"id": id_} | _line(message)) + b"\n"
            for id_, message in zip(ids, messages, strict=True)
        )
        told = self._written(f"{name}.jsonl", content)
        return [
            told or Outcome("accepted", message_id=id_, response={"file": f"{name}.jsonl"}) for id_ in ids
        ]

    def _written(self, name: str, content: bytes) -> Outcome | None:
        """What went wrong; None when the file stands with this content, from now on or before."""
        final = self._folder / name
        temporary = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if final.exists():
                is_same = final.read_bytes() == content
                return None if is_same else rejected("key_reused", f"{name} was written with other messages")
            handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            return rejected("not_written", f"{name} cannot be written: {error.strerror}", retryable=True)
        try:
            os.replace(temporary, final)
            _sync(self._folder)
        except OSError as error:
            return unknown("not_synced", f"{name} may not last: {error.strerror}")
        return None


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _line(message: Message) -> dict[str, Any]:
    return {
        "reference": message.reference,
        "channel": message.channel,
        "from": message.sender,
        "to": message.address,
        "subject": message.subject,
        "body": message.body,
        "headers": dict(message.headers),
    }
