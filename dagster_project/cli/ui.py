"""What every command shares: how results, progress and errors are shown, and how the database is reached."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from kernel.text import UNSEEN, printable
from models.errors import RevenueOsError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from rich.progress import Progress

_SHORT = 10  # characters: a date, a status, an amount below a hundred million
_GAP = 2
# An amount, a day, an instant, a hash: of half of one nothing can be made, so no width takes any of it.
_WHOLE = re.compile(
    r"-?[\d,]+(\.\d+)? [A-Z]{3}|-?[\d,]+\.\d+|\d{4}-\d\d-\d\d([ T]\d\d:\d\d\S*)?|[0-9a-f]{64}"
)
# What a person compares down a column: with a fraction, a currency or a percent sign, as codes and versions are not.
_FIGURE = re.compile(r"-?[\d,]+(\.\d+|(\.\d+)?( [A-Z]{3}| ?%))")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class SentenceErrors(TyperGroup):
    """Prints an error that is meant for a person as its sentence and exits with 1; others keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RevenueOsError as error:
            typer.echo(f"Error: {lines(str(error))}", err=True)
            raise typer.Exit(1) from error


def connect() -> sa.Engine:
    """An engine on the configured database, answered for; starts the embedded server when it is the one.

    Raises DatabaseError when the database is absent or unreachable.
    """
    from dagster_project import database
    from models.address import connected

    with connected(database.url()):
        return database.engine()


@contextmanager
def connection() -> Iterator[sa.Connection]:
    """A transaction of the pipeline's role on the configured database."""
    from kernel import tenancy

    with connect().begin() as opened:
        tenancy.service(opened)
        yield opened


def fail(sentence: str) -> NoReturn:
    """Ends the command with exit code 1 and a sentence that says what to do."""
    raise RevenueOsError(sentence)


def step(name: str, outcome: str) -> None:
    """Tells what a longer command has done so far, on standard error so that results stay parseable."""
    typer.echo(f"{name:<9} {printable(str(outcome))}", err=True)


@contextmanager
def spinner(task: str, silent: bool = False) -> Iterator[None]:
    """Shows that something of unknown length is going on."""
    from rich.console import Console

    if silent or not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(task):
        yield


def emit(result: Any, as_json: bool, title: str | None = None) -> None:
    """Prints a record (mapping or dataclass), or a sequence of them as a table; or either as JSON."""
    rows = [plain(row) for row in result] if _is_many(result) else plain(result)
    if as_json:
        text = json.dumps(rows, default=_json, ensure_ascii=False)
        # The same value to a program, and nothing that a terminal would obey.
        typer.echo(UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
    elif isinstance(rows, list):
        _print_table(rows, title)
    else:
        if title:
            typer.echo(f"\n{printable(title)}")
        width = max(map(len, rows), default=0)
        for name, value in rows.items():
            typer.echo(f"{_title(name):<{width}}  {shown(value)}")


def progress(as_json: bool = False) -> Progress:
    """A progress display on standard error, silent when that is no terminal or the result is JSON."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    silent = as_json or not sys.stderr.isatty()
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=silent)


def _json(value: Any) -> str:
    """Instants in ISO 8601, decimals plain (0 and not 0E-12), the rest as its text."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _is_many(result: Any) -> bool:
    return isinstance(result, Sequence) and not isinstance(result, str | bytes)


def plain(record: Any) -> dict[str, Any]:
    """A record's fields by name."""
    return dict(record) if isinstance(record, Mapping) else dataclasses.asdict(record)


def _title(name: str) -> str:
    return name.replace("_", " ")


def lines(text: str) -> str:
    """A text of several lines as it may be printed."""
    return "\n".join(map(printable, text.split("\n")))


def shown(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return printable(", ".join(map(str, value))) or "-"
    if isinstance(value, Decimal):
        # Enough for a reader; --json gives every digit.
        whole = value == value.to_integral_value()
        decimals = 0 if whole or abs(value) >= 10_000 else 2 if abs(value) >= 1 else 4
        return f"{value:,.{decimals}f}"
    return "-" if value is None else printable(str(value))


def _print_table(rows: list[dict[str, Any]], title: str | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        typer.echo("Nothing found.")
        return
    console = Console()
    widest = {name: max(len(shown(row[name])) for row in rows) for name in rows[0]}
    # What is short, as numbers and dates are, stays on one line while the terminal has room for it.
    kept = {name: width for name, width in widest.items() if width <= _SHORT}
    if sum(kept.values()) + _GAP * len(widest) + max(widest.values()) > console.width:
        kept = {}
    kept |= {
        name: widest[name] for name in rows[0] if any(_WHOLE.fullmatch(shown(row[name])) for row in rows)
    }
    # No vertical lines: they cost the width that numbers need on a terminal of 80 columns.
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, _GAP - 1, 0, 0))
    for place, name in enumerate(rows[0]):
        cells = [row[name] for row in rows if row[name] is not None]
        counted = any(isinstance(cell, Decimal | int) for cell in cells) or (
            bool(cells) and all(_FIGURE.fullmatch(shown(cell)) for cell in cells)
        )
        # What a row is about stays on one line too; the rest folds rather than losing its end.
        table.add_column(
            _title(name).replace("-", "- "),
            overflow="fold",
            no_wrap=place == 0,
            min_width=kept.get(name),
            justify="right" if counted else "left",
        )
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row.values()))
    if title:  # not as the table's own, which would be folded to the width of that
        console.print(Text(printable(title), style="table.title"), soft_wrap=True)
    # What is still wider goes on in the next line of a terminal, and on in a pipe.
    console.print(table, crop=False)
