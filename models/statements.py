"""Named SQL: each statement stands in models/sql/<file>.sql under `-- name --` and a line of purpose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import sqlalchemy as sa

_HEADER = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def statements(file: str) -> dict[str, sa.TextClause]:
    """Every statement of models/sql/<file>.sql by name, in the order of the file."""
    text = (Path(__file__).parent / "sql" / f"{file}.sql").read_text(encoding="utf-8")
    parts = _HEADER.split(text)[1:]
    return {name: sa.text(body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def array(values: Iterable[object]) -> str:
    """A PostgreSQL array of ids, hashes, numbers or our own words, which need no quotes: a tenth of a driver's time."""
    return "{" + ",".join(map(str, values)) + "}"


def texts(values: Sequence[str | None]) -> str:
    """A PostgreSQL array of any texts without NUL; None is null. Many times quicker than the driver's."""
    if None in values:
        return "{" + ",".join(["NULL" if value is None else f'"{_escaped(value)}"' for value in values]) + "}"
    # Escaped all at once: what stands between them occurs in none.
    return '{"' + _escaped("\0".join(values)).replace("\0", '","') + '"}' if values else "{}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
