"""Folders through which files arrive: which of them wait, and where those go that were taken or refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_NAME_BYTES = 200  # of 255 that a file system takes: a number and an ending come to it


def arrived(files: Iterable[Path]) -> list[Path]:
    """Those that lie there whole, the oldest first. Hidden ones and `.part` are still being written."""
    found = [
        file for file in files if file.is_file() and not file.name.startswith(".") and file.suffix != ".part"
    ]
    return sorted(found, key=lambda file: (_changed(file), file))


def put(file: Path, folder: Path) -> Path:
    """Moves a file, beside others of its name that came before."""
    folder.mkdir(exist_ok=True)
    given = text(file.name)
    stem, dot, suffixes = given.partition(".")
    if len(given.encode()) > _NAME_BYTES:
        suffixes = given[-12:].partition(".")[2]
        stem = given.encode()[: _NAME_BYTES - 50].decode("utf-8", "ignore")
    place, number = folder / f"{stem}{dot}{suffixes}", 1
    while place.exists():
        place, number = folder / f"{stem}-{number}{dot}{suffixes}", number + 1
    return file.rename(place)


def refuse(file: Path, folder: Path, why: str) -> None:
    """Puts a file away with the reason beside it."""
    aside = put(file, folder)
    aside.with_name(f"{aside.name}.why.txt").write_text(f"{text(why)}\n", encoding="utf-8")


def text(name: str) -> str:
    """A name as it can be written anywhere: bytes that are no UTF-8, which it may hold, are U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        # Taken away meanwhile.
        return 0
