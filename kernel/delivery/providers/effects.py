"""The simulator's record of what it did: a line per request, on disk before the answer, and read back after any end."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = "effects.jsonl"


@dataclass(frozen=True, slots=True)
class Effect:
    """A message that went out. `reference` is ours, empty where a request carried none; `id` is the simulator's."""

    id: str
    reference: str
    address: str
    account: str
    key: str
    at: str


def read(folder: Path) -> list[Effect]:
    """Every effect so far, in order; also while a simulator writes, and after it was killed."""
    return [effect for line in _lines(folder / FILE) for effect in _effects(line)]


class Record:
    """Appends to the file of a folder, and knows the first answer to each account and key. One process at a time.

    `count` is the number of effects so far.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / FILE
        self._known: dict[tuple[str, str], tuple[str, list[Effect]]] = {}
        self._found: dict[tuple[str, str], Effect] = {}
        self.count = 0
        for line in _lines(file):
            self._remember(line)
        self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # What a kill left unfinished was never answered, and is no effect.
        os.ftruncate(self._handle, file.read_bytes().rfind(b"\n") + 1)
        self._lock = threading.Lock()

    def take(
        self, account: str, key: str | None, digest: str, messages: Sequence[tuple[str, str]], at: str
    ) -> tuple[list[Effect], bool] | None:  # fmt: skip
        """The effects of a request and whether they are new; None for a key that was used with another body.

        `messages` are references and addresses. Without a key every request is new.
        """
        with self._lock:
            if key is not None and (known := self._known.get((account, key))):
                return (known[1], False) if known[0] == digest else None
            effects = [
                Effect(f"{self.count + place:032x}", reference, address, account, key or "", at)
                for place, (reference, address) in enumerate(messages, start=1)
            ]
            line = {"digest": digest, "effects": [asdict(effect) for effect in effects]}
            os.write(self._handle, json.dumps(line).encode() + b"\n")
            os.fsync(self._handle)
            self._remember(line)
            return effects, True

    def find(self, account: str, reference: str) -> Effect | None:
        with self._lock:
            return self._found.get((account, reference))

    def close(self) -> None:
        os.close(self._handle)

    def _remember(self, line: Mapping[str, Any]) -> None:
        effects = _effects(line)
        for effect in effects:
            self._found.setdefault((effect.account, effect.reference), effect)
        if effects and effects[0].key:
            self._known[effects[0].account, effects[0].key] = (line["digest"], effects)
        self.count += len(effects)


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    content = file.read_bytes()
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def _effects(line: Mapping[str, Any]) -> list[Effect]:
    return [Effect(**fields) for fields in line["effects"]]
