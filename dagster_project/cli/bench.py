"""`revenue-os bench`: the measured workloads, on a database of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from dagster_project.cli import bench_books, ui

app = typer.Typer(help="The measured workloads, on a database of their own.", invoke_without_command=True)
app.command("books")(bench_books.books)
app.command("books-speed")(bench_books.speed)


@app.callback()
def everything(context: typer.Context) -> None:
    """Runs every workload at its stated size when none is named."""
    if context.invoked_subcommand is None:
        load()
        metrics()
        decisions()
        dispatch()
        delivery()
        claims()
        fairness()
        starts()
        faults()
        usage()
        door()
        month()


@app.command()
def metrics(
    tenants: Annotated[int, typer.Option(help="Companies.")] = 50,
    days: Annotated[int, typer.Option(help="Days to compute, in one run.")] = 365,
    largest: Annotated[
        float, typer.Option(help="Size of the last point; 1 is about two million facts.")
    ] = 1.0,
    as_json: ui.Json = False,
) -> None:
    """Workload 1: load facts and compute every metric at 1x, 2x, 4x and 8x."""
    from dataclasses import asdict

    from bench.metrics import curve

    points = []
    with ui.progress(as_json) as progress:
        task = progress.add_task("Sizes", total=4)
        for point in curve(tenants, days, largest):
            points.append(point)
            progress.advance(task)
    growth = round(points[-1].compute_seconds / points[0].compute_seconds, 2)
    if as_json:
        ui.emit({"points": [asdict(point) for point in points], "growth_1x_to_8x": growth}, as_json)
        return
    ui.emit(points, as_json, title=f"{tenants} tenants x {days} days x every metric")
    typer.echo(f"8 times the facts cost {growth} times the seconds.")


@app.command()
def load(
    rows: Annotated[int, typer.Option(help="Events in a file.")] = 500_000,
    as_json: ui.Json = False,
) -> None:
    """Workload 2: load events, against a bare COPY of the same file, in turns; the last row holds the medians."""
    from bench.load import turns

    ui.emit(list(turns(rows)), as_json, title="Loader against a bare COPY")


@app.command()
def decisions(as_json: ui.Json = False) -> None:
    """Workload 3: the cycles of 125, 250, 500 and 1000 tenants, each deciding on 35 days of every metric."""
    from bench.decisions import curve

    ui.emit(list(curve()), as_json, title="Cycles")


@app.command()
def dispatch(
    changes: Annotated[int, typer.Option(help="Approved changes of configuration.")] = 1000,
    as_json: ui.Json = False,
) -> None:
    """Workload 4: carry out approved changes, each checked, recorded, applied and read back."""
    from bench.dispatch import measure

    ui.emit([measure(changes)], as_json, title="Dispatch")


@app.command()
def delivery(
    messages: Annotated[int, typer.Option(help="Messages a round.")] = 3000,
    times: Annotated[int, typer.Option(help="Rounds of each system and batch.")] = 5,
    as_json: ui.Json = False,
) -> None:
    """Workload 5: messages a second with everything that keeps them single, in turns with PgQueuer and Procrastinate."""
    from dataclasses import asdict

    from bench.delivery import ratios, rounds

    found = list(rounds(messages, times))
    if as_json:
        ui.emit({"rounds": [asdict(each) for each in found], "ratios": ratios(found)}, as_json)
        return
    ui.emit(found, as_json, title="Messages a second")
    ui.emit(ratios(found), as_json, title="Least / median / most, and the ratio of medians")


@app.command()
def claims(as_json: ui.Json = False) -> None:
    """Workload 6: claiming from ten thousand and from a million queued items, and beside an old snapshot."""
    from bench.delivery import claims as measured

    ui.emit(list(measured()), as_json, title="Claiming four jobs")


@app.command()
def fairness(as_json: ui.Json = False) -> None:
    """Workload 8: how soon 99 tenants' jobs begin while one tenant floods, in turns with none that does."""
    from bench.starts import fairness as measured

    ui.emit(list(measured()), as_json, title="Seconds from due to begun")


@app.command()
def starts(
    minutes: Annotated[float, typer.Option(help="Over how long jobs become due.")] = 5,
    as_json: ui.Json = False,
) -> None:
    """Workload 9: how soon jobs begin when a Dagster daemon's sensor wakes the worker, beside a flood."""
    from bench.starts import woken

    ui.emit(list(woken(minutes=minutes)), as_json, title="Seconds from due to begun")


@app.command()
def faults(as_json: ui.Json = False) -> None:
    """Workload 7: a killed and a sleeping worker, on ours, PgQueuer and Procrastinate; about six minutes."""
    from bench.faults import table

    ui.emit(list(table()), as_json, title="600 jobs of 100 ms, two workers")


@app.command()
def usage(
    events: Annotated[int, typer.Option(help="Events in a file.")] = 1_000_000,
    times: Annotated[int, typer.Option(help="Files.")] = 3,
    as_json: ui.Json = False,
) -> None:
    """Workload 10: meter files of events, beside a bare COPY of the same rows, in turns; the last row holds the medians."""
    from bench.usage import turns

    ui.emit(list(turns(events, times)), as_json, title="Files of events against a bare COPY")


@app.command()
def month(
    rows: Annotated[int, typer.Option(help="Rows of the month, of two sites.")] = 10_000_000,
    as_json: ui.Json = False,
) -> None:
    """Workload 11: reconcile and close a large month, then export the half of it; ten minutes with the rows to make."""
    from bench.usage import month as measured

    ui.emit(list(measured(rows)), as_json, title="A month")


@app.command()
def door(as_json: ui.Json = False) -> None:
    """Workload 12: events over HTTP, as many as it carries, at half and at twice of that."""
    from bench.usage_http import loads

    ui.emit(list(loads()), as_json, title="The HTTP door of usage")
