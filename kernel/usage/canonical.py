"""The one way in which a row of the ledger is written as a line of a dispute file, and the statement that writes it so.

PostgreSQL writes the lines (models/sql/usage_dispute.sql); the functions here are the same rules, for tests and for
whoever writes such a line by hand. How a line is read again stands in `verify`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from kernel.usage.verify import COLUMNS
from models.statements import statements

# What would end a line, hide, or turn the direction of writing; and the backslash, which escapes them.
_ESCAPED = re.compile(
    "[\x01-\x1f\\\\\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
# What a spreadsheet would calculate. It cuts lines at semicolons too, where that is the custom.
_FORMULA = re.compile("(^|;)(?= *['=+@\uff1d\uff0b\uff20\uff0d-])")


def escaped(text: str) -> str:
    return _ESCAPED.sub(lambda letter: f"\\u{ord(letter[0]):04x}", text)


def guarded(text: str) -> str:
    """With an apostrophe before what would be a formula, and before an apostrophe there, so that it can be taken away."""
    return _FORMULA.sub(r"\1'", text)


def quoted(field: str | None) -> str:
    """RFC 4180: in quotes what holds a comma or a quote, and the empty text, which null is not."""
    if field is None:
        return ""
    return '"' + field.replace('"', '""') + '"' if field == "" or re.search('[",]', field) else field


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, with six digits and Z. Refuses (ValueError) what names no zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at} names no zone")
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def line(row: Mapping[str, Any]) -> bytes:
    """The line of a row that has the fields of `COLUMNS`, without its end, in UTF-8."""
    return ",".join(quoted(_field(row[name])) for name in COLUMNS).encode()


def copy_lines(tenant_id: UUID, site_id: UUID, year_month: str) -> str:
    """The statement that writes the lines of a site's month: COPY takes no parameters, so they stand in its text."""
    bound = statements("usage_dispute")["lines"].bindparams(
        sa.bindparam("tenant_id", str(UUID(str(tenant_id)))),
        sa.bindparam("site_id", str(UUID(str(site_id)))),
        sa.bindparam("year_month", year_month, sa.Text),
    )
    # No driver's dialect: theirs double percent signs, which only text with parameters would have taken back.
    select = bound.compile(
        dialect=postgresql.dialect(paramstyle="named"), compile_kwargs={"literal_binds": True}
    )
    return f"copy ({select}) to stdout (format csv, encoding 'utf8')"


def _field(value: Any) -> str | None:
    if isinstance(value, str):
        return guarded(escaped(value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return instant(value)
    return None if value is None else str(value)
