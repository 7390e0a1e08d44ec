"""`revenue-os bench books` and `books-speed`: bank lines of a real city, replayed, and how fast they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dagster_project.cli import ui

_Data = Annotated[
    Path, typer.Option(help="Folder of birmingham-pcard-YEAR.csv.gz.", exists=True, file_okay=False)
]
_DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "birmingham-pcard"


def books(
    data: _Data = _DATA,
    first: Annotated[str, typer.Option(help="First month that is decided.")] = "2018-01",
    since: Annotated[str, typer.Option(help="First month that is reported.")] = "2018-07",
    last: Annotated[str, typer.Option(help="Last month.")] = "2021-12",
    to: Annotated[Path | None, typer.Option(help="Keep predictions and figures in this folder.")] = None,
    as_json: ui.Json = False,
) -> None:
    """Workload 13: years of purchase cards month by month, each decided before its labels are known, beside smart_importer
    under the same schedule; one and a half hours.
    """
    from bench.books import run
    from bench.books_report import tables

    with ui.progress(as_json) as progress:
        task = progress.add_task("Months", total=None)
        told = run(
            data, first, since, last, to,
            started=lambda total: progress.update(task, total=total),
            done=lambda month: progress.update(task, advance=1, description=month),
        )  # fmt: skip
    if as_json:
        ui.emit(told, as_json)
        return
    for title, rows in tables(told):
        if rows:
            ui.emit(rows, as_json, title=title)


def speed(
    data: _Data = _DATA,
    lines: Annotated[int, typer.Option(help="Lines, the newest of the city.")] = 200_000,
    as_json: ui.Json = False,
) -> None:
    """Workload 14: import, train, score and decide, beside a month of smart_importer on the same lines."""
    from bench.books_speed import speeds

    ui.emit(list(speeds(data, lines)), as_json, title="Bank lines")
