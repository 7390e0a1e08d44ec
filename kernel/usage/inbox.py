"""The folder through which files of events arrive: a folder for each site, named by its public id.

A file that was taken lies in `taken` afterwards, with what became of bad lines beside it, of the first 100,000; one that could not be taken
lies in `refused`, with the reason beside it: mended and put back, it is taken. One that lies beside the folders is nobody's
and is refused too.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

from kernel import folders
from kernel.errors import RefusedError
from kernel.usage import files, outbox, sites
from kernel.usage.batch import Impact, Intake, Line
from kernel.usage.reading import ReaderEndedError

ACTOR = "inbox"
# Where those lie that lay beside the folders: the space keeps it from being a site's public id.
ASIDE = "refused files"
# Of the report of lines, here and of a command.
COLUMNS = ("file", *Line._fields)
# What need not be the file's own fault; of it, what is: a value that no database takes.
_PASSING = (sa.exc.SQLAlchemyError, OSError, MemoryError, ReaderEndedError)
_LASTING = (sa.exc.DataError, sa.exc.StatementError)
_MOST_TOLD = 100_000  # of bad lines


def waiting(root: Path) -> list[Path]:
    """The files that lie there, the oldest first."""
    found = folders.arrived((*root.glob("*"), *root.glob("*/*")))
    return [file for file in found if file.parent != root / ASIDE]


def shown(file: Path) -> str:
    """A file's folder and name as text that can be written anywhere."""
    return folders.text(f"{file.parent.name}/{file.name}")


def take(
    engine: sa.Engine,
    root: Path,
    file: Path,
    *,
    setting: object,
    clock: Callable[[], datetime],
    publisher: outbox.Publisher = outbox.write,
) -> Impact:
    """Meters the events of a file and puts it away.

    `root` is the inbox. Raises RefusedError, once it is put away, for a file of nobody's, one that is not what its name says, and one that
    nothing can be made of. What a database, a disk or a reader that was ended raises leaves it where it is: it is taken
    again, and nothing twice.
    """
    folder = file.parent
    try:
        if (name := shown(file)) != f"{folder.name}/{file.name}":
            raise RefusedError(f"{name} has a name that is no UTF-8: give it another one")
        if folder == root:
            raise RefusedError(f"{file.name} lies in no site's folder: put it into one named by a public id")
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
        _refuse(root, file, str(error))
        raise
    except Exception as error:
        if isinstance(error, _PASSING) and type(error) not in _LASTING:
            raise
        why = f"{name} cannot be taken ({type(error).__name__}: {str(error)[:300]}): hand it over mended"
        _refuse(root, file, why)
        raise RefusedError(why) from error
    kept = folders.put(file, folder / "taken")
    if bad:
        with kept.with_name(f"{kept.name}.lines.csv").open(
            "w", encoding="utf-8", errors="replace", newline=""
        ) as target:
            rows = csv.writer(target, lineterminator="\n")
            rows.writerow(COLUMNS)
            rows.writerows((file.name, *line) for line in bad)
    return impact


def _refuse(root: Path, file: Path, why: str) -> None:
    folders.refuse(file, root / ASIDE if file.parent == root else file.parent / "refused", why)
