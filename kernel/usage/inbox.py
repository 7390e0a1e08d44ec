"""The folder through which files of events arrive: a folder for each site, named by its public id.

A file that was taken lies in `taken` afterwards, with what became of bad lines beside it, of the first 100,000; one that could not be taken
lies in `refused`, with the reason beside it: mended and put back, it is taken.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import files, outbox, sites
from kernel.usage.batch import Impact, Intake, Line
from kernel.usage.reading import ReaderEndedError

ACTOR = "inbox"
# What need not be the file's own fault; of it, what is: a value that no database takes.
_PASSING = (sa.exc.SQLAlchemyError, OSError, MemoryError, ReaderEndedError)
_LASTING = (sa.exc.DataError, sa.exc.StatementError)
_MOST_TOLD = 100_000  # of bad lines
_NAME_BYTES = 200  # of 255 that a file system takes: a number and an ending come to it


def waiting(root: Path) -> list[Path]:
    """The files that lie there, the oldest first. Hidden ones are still being written."""
    found = [
        file
        for file in root.glob("*/*")
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".part"
    ]
    return sorted(found, key=lambda file: (_changed(file), file))


def shown(file: Path) -> str:
    """A file's site and name as text that can be written anywhere."""
    return _text(f"{file.parent.name}/{file.name}")


def take(
    engine: sa.Engine,
    file: Path,
    *,
    setting: object,
    clock: Callable[[], datetime],
    publisher: outbox.Publisher = outbox.write,
) -> Impact:
    """Meters the events of a file and puts it away.

    Raises RefusedError, once it is put away, for a file of nobody's, one that is not what its name says, and one that
    nothing can be made of. What a database, a disk or a reader that was ended raises leaves it where it is: it is taken
    again, and nothing twice.
    """
    folder = file.parent
    try:
        if (name := shown(file)) != f"{folder.name}/{file.name}":
            raise RefusedError(f"{name} has a name that is no UTF-8: give it another one")
        files.kind(file)
        with engine.begin() as connection:
            site = sites.by_public_id(connection, folder.name)
        if site is None:
            raise RefusedError(
                f"{folder.name} is no site that takes events: name the folder by its public id"
            )
        bad: list[Line] = []

        def told(lines: Sequence[Line]) -> None:
            more = (line for line in lines if line.reason)
            bad.extend(islice(more, _MOST_TOLD - len(bad)))

        impact = Intake(engine, site, setting, ACTOR, clock, told, publisher=publisher).take(file)
    except RefusedError as error:
        _refuse(file, str(error))
        raise
    except Exception as error:
        if isinstance(error, _PASSING) and type(error) not in _LASTING:
            raise
        why = f"{name} cannot be taken ({type(error).__name__}: {str(error)[:300]}): hand it over mended"
        _refuse(file, why)
        raise RefusedError(why) from error
    kept = _put(file, folder / "taken")
    if bad:
        with kept.with_name(f"{kept.name}.lines.csv").open(
            "w", encoding="utf-8", errors="replace", newline=""
        ) as target:
            rows = csv.writer(target, lineterminator="\n")
            rows.writerow(("line", "status", "reason"))
            rows.writerows((line.line, line.status, line.reason) for line in bad)
    return impact


def _refuse(file: Path, why: str) -> None:
    aside = _put(file, file.parent / "refused")
    aside.with_name(f"{aside.name}.why.txt").write_text(f"{_text(why)}\n", encoding="utf-8")


def _put(file: Path, folder: Path) -> Path:
    """Moves a file, beside others of its name that came before."""
    folder.mkdir(exist_ok=True)
    given = _text(file.name)
    stem, dot, suffixes = given.partition(".")
    if len(given.encode()) > _NAME_BYTES:
        suffixes = given[-12:].partition(".")[2]
        stem = given.encode()[: _NAME_BYTES - 50].decode("utf-8", "ignore")
    place, number = folder / f"{stem}{dot}{suffixes}", 1
    while place.exists():
        place, number = folder / f"{stem}-{number}{dot}{suffixes}", number + 1
    return file.rename(place)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        # Taken away meanwhile.
        return 0


def _text(name: str) -> str:
    """Bytes that are no UTF-8, which a name may hold, are U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
