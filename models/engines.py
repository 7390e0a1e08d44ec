"""The one way to the database of everything that runs: an error says what is wrong and nothing of whom it is about.

Errors go to logs, to tables and to people's screens; payloads and addresses belong in none of them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

_BROKEN_CONSTRAINT = "23"  # the class of SQLSTATE whose details are the row


def create(url: str, **options: Any) -> sa.Engine:
    """As sqlalchemy.create_engine; errors name the table, the constraint and the statement, without parameters and rows."""
    made = sa.create_engine(url, hide_parameters=True, **options)
    sa.event.listen(made, "handle_error", _without_the_row)
    return made


def _without_the_row(context: sa.ExceptionContext) -> None:
    told, wrapped = context.original_exception, context.sqlalchemy_exception
    if wrapped is None or not (getattr(told, "sqlstate", None) or "").startswith(_BROKEN_CONSTRAINT):
        return
    whole, primary = str(told), told.diag.message_primary  # type: ignore[attr-defined]
    told.args = (primary,)
    wrapped.args = (wrapped.args[0].replace(whole, primary), *wrapped.args[1:])
