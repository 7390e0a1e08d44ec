"""Files of events read and given their keys: large ones by a process of its own, a part ahead of whoever meters them.

Reading costs Python what writing costs the database; beside each other they take half the time. What becomes of the
events stands in `batch`.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kernel.errors import RefusedError
from kernel.usage import files, payloads
from kernel.usage.events import Columns, Event
from kernel.usage.keys.payload import InvalidPayloadError
from kernel.usage.sites import Site

_LARGE = 32 * 2**20  # bytes: what is worth a process
# Parts that are read here while the other process starts.
_MEANWHILE = 3


class ReaderEndedError(RuntimeError):
    """The process that read a file is no more: for reasons that need not be the file's."""


@dataclass(frozen=True, slots=True)
class Made:
    """A part of a file: of each record its line, when it came, and its event or why it is none. `refused` are lines
    that hold no record, with the reason.
    """

    lines: list[int]
    clock: list[datetime]
    events: list[Event | InvalidPayloadError]
    refused: list[tuple[int, str]]


def made(path: Path, site: Site, setting: object, arrived: datetime) -> Iterator[Made]:
    """The parts of a file, whose events came when they say, or at `arrived`. Raises RefusedError as `files.parts`."""
    if path.stat().st_size < _LARGE or multiprocessing.current_process().daemon:
        return _made(path, site, setting, arrived)
    return _read_ahead(path, site, setting, arrived)


def _made(path: Path, site: Site, setting: object, arrived: datetime) -> Iterator[Made]:
    for part in files.parts(path):
        clock = [instant or arrived for instant in part.received_at]
        for payload in part.payloads:
            if isinstance(payload, dict) and "s" not in payload:
                payload["s"] = site.public_id
        events = payloads.events(site, part.payloads, setting=setting, clock=clock)
        yield Made(part.lines, clock, events, part.refused)


def _read_ahead(*given: Any) -> Iterator[Made]:
    # Spawned: a fork would share the connections and the locks of this process.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    reader = context.Process(
        target=_read, args=(theirs, _MEANWHILE, *given), daemon=True, name="reader of events"
    )
    reader.start()
    theirs.close()
    # What comes is unpacked while the database works.
    with ThreadPoolExecutor(1, "receiver of events") as receiver:
        try:
            coming = receiver.submit(_received, ours)
            yield from islice(_made(*given), _MEANWHILE)
            while (part := coming.result()) is not None:
                coming = receiver.submit(_received, ours)
                yield part
        finally:
            reader.kill()
            reader.join()
    ours.close()


def _received(ours: Connection) -> Made | None:
    """The next part; None when there is none. Raises what the reader met."""
    try:
        message = ours.recv()
    except (EOFError, OSError):
        raise ReaderEndedError(
            "the process that read the file was ended: hand the file over again, what was metered is not metered twice"
        ) from None
    if isinstance(message, Exception):
        raise message
    return None if message is None else _unpacked(message)


def _read(theirs: Connection, first: int, *given: Any) -> None:
    # Many small objects without cycles: the collector would walk through all of them over and over.
    gc.disable()
    try:
        for part in islice(_made(*given), first, None):
            theirs.send(_packed(part))
        theirs.send(None)
    except BrokenPipeError:
        # Nobody waits for the rest.
        return
    except RefusedError as error:
        theirs.send(error)
    except Exception as error:
        # By its words: not every error can be sent.
        theirs.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _packed(part: Made) -> tuple[Any, ...]:
    errors = {
        place: (each.code, str(each))
        for place, each in enumerate(part.events)
        if isinstance(each, InvalidPayloadError)
    }
    good = [each for each in part.events if not isinstance(each, InvalidPayloadError)]
    # By columns, which are packed many times quicker.
    columns = tuple(Columns.of(good)) if good else ()
    return part.lines, part.clock, columns, errors, part.refused


def _unpacked(message: tuple[Any, ...]) -> Made:
    lines, clock, columns, errors, refused = message
    events: list[Any] = list(map(Event._make, zip(*columns, strict=True)))
    if errors:
        rest = iter(events)
        events = [
            InvalidPayloadError(*errors[place]) if place in errors else next(rest)
            for place in range(len(lines))
        ]
    return Made(lines, clock, events, refused)
