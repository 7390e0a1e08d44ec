"""The folder through which files of events arrive: a folder for each site, named by its public id.

A file that was taken lies in `taken` afterwards, with what became of bad lines beside it; one that could not be taken
lies in `refused`, with the reason beside it: mended and put back, it is taken.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import files, outbox, sites
from kernel.usage.batch import Impact, Intake, Line

ACTOR = "inbox"


def waiting(root: Path) -> list[Path]:
    """The files that lie there, the oldest first. Hidden ones are still being written."""
    found = [
        file
        for file in root.glob("*/*")
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".part"
    ]
    return sorted(found, key=lambda file: (file.stat().st_mtime, file))


def take(
    engine: sa.Engine,
    file: Path,
    *,
    setting: object,
    clock: Callable[[], datetime],
    publisher: outbox.Publisher = outbox.write,
) -> Impact:
    """Meters the events of a file and puts it away.

    Raises RefusedError, once it is put away, for a file of nobody's or that is not what its name says. Whatever else
    is raised leaves it where it is: it is taken again, and nothing twice.
    """
    folder = file.parent
    try:
        files.kind(file)
        with engine.begin() as connection:
            site = sites.by_public_id(connection, folder.name)
        if site is None:
            raise RefusedError(
                f"{folder.name} is no site that takes events: name the folder by its public id"
            )
        bad: list[Line] = []

        def told(lines: Sequence[Line]) -> None:
            bad.extend(line for line in lines if line.reason)

        impact = Intake(engine, site, setting, ACTOR, clock, told, publisher=publisher).take(file)
    except RefusedError as error:
        aside = _put(file, folder / "refused")
        aside.with_name(f"{aside.name}.why.txt").write_text(f"{error}\n", encoding="utf-8")
        raise
    kept = _put(file, folder / "taken")
    if bad:
        with kept.with_name(f"{kept.name}.lines.csv").open(
            "w", encoding="utf-8", errors="replace", newline=""
        ) as target:
            rows = csv.writer(target, lineterminator="\n")
            rows.writerow(("line", "status", "reason"))
            rows.writerows((line.line, line.status, line.reason) for line in bad)
    return impact


def _put(file: Path, folder: Path) -> Path:
    """Moves a file, beside others of its name that came before."""
    folder.mkdir(exist_ok=True)
    stem, suffixes = file.name.partition(".")[0], "".join(file.suffixes)
    place, number = folder / file.name, 1
    while place.exists():
        place, number = folder / f"{stem}-{number}{suffixes}", number + 1
    return file.rename(place)
