"""Rows as tables in metadata."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg


def table(rows: Sequence[Mapping[str, Any]], nothing: str) -> dg.MarkdownMetadataValue:
    """A table with a column for each key of the first row; `nothing` when there are none."""
    if not rows:
        return dg.MetadataValue.md(nothing)
    names = list(rows[0])
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * len(names) + "|"]
    lines += [f"| {' | '.join(_cell(row[name]) for name in names)} |" for row in rows]
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(_cell(each) for each in value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:.1f}"
    # Names and errors come from tenants and providers: a bar or a line break would end the cell.
    return "" if value is None else " ".join(str(value).replace("|", "\\|").split())
