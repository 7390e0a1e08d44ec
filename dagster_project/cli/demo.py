"""`revenue-os demo` and `revenue-os up`: from nothing to numbers, and the UI over the same data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from dagster_project.cli import ui

DAYS = 90


def demo(as_json: ui.Json = False) -> None:
    """Sample tenants, 90 days of metrics, one decision, two campaigns and a month of usage. Safe to repeat."""
    from dagster_project import database
    from dagster_project.cli import day, day_books, day_delivery, day_funnel, day_usage, day_usage_account
    from dagster_project.cli.metrics import headlines
    from dagster_project.settings import settings
    from kernel.landing import folder
    from kernel.warehouse import outcomes

    _, before, after = database.prepare()
    ui.step(
        "Database", f"{database.shown()}, schema at revision {after}" + (" (new)" if before is None else "")
    )
    last = _write_samples(settings().landing_dir)
    first = last - timedelta(days=DAYS - 1)
    engine = ui.connect()
    made = folder.apply_tenants(engine, settings().landing_dir)
    ui.step("Tenants", f"created {', '.join(made)}" if made else "are there")
    pending = folder.pending(engine, settings().landing_dir)
    with engine.begin() as connection:
        done = not pending and outcomes.settled(connection, first, last)
    if done:
        ui.step("Metrics", f"{first} to {last} are computed and no file is new: nothing to do")
    else:
        _compute(first, last, len(pending))
        for file in folder.pending(engine, settings().landing_dir):
            ui.step("Refused", f"{file.name}: revenue-os loads --refused tells why")
    told = day.live(engine, last)
    sent = day_delivery.live(engine, settings().home)
    used = day_usage.live(engine, settings().home, settings().usage_events, last)
    kept = day_books.live(
        engine,
        settings().home,
        settings().books_models,
        settings().books_reports,
        settings().books_exports,
        last,
    )
    with engine.begin() as connection:
        headlines(connection, as_json)
    if not as_json:
        day.tell(told)
        day_funnel.tell(sent)
        day_usage_account.tell(used)
        day_books.tell(kept)
        typer.echo(
            "\nLook further:  make up                                            the Dagster UI and its lineage\n"
            "               .venv/bin/revenue-os metrics explain payback_months -t acme-healthy\n"
            "               .venv/bin/revenue-os decide show -t cirrus-cash-constrained   gates, diagnosis, actions\n"
            "               .venv/bin/revenue-os actions list                     what waits for an answer\n"
            "               .venv/bin/revenue-os campaign cases -t acme-healthy   messages nobody knows the end of\n"
            "               .venv/bin/revenue-os usage invoice -t acme-healthy            what a month of usage came to\n"
            f"               .venv/bin/revenue-os books queue -t {kept[0].slug}      bank lines that wait for a person"
        )


def _write_samples(landing: Path) -> date:
    """Writes the sample tenants once, up to a day that has ended in every time zone; gives their last day."""
    from samples import PROFILES, write_all, written

    # A tenant's folder is whole once it is described, which comes last.
    known = written(landing)
    if all(profile.slug in known for profile in PROFILES):
        last = max(known[profile.slug] for profile in PROFILES)
    else:
        end = datetime.now(UTC).date() - timedelta(days=2)
        with ui.progress() as progress:
            task = progress.add_task("Writing sample tenants", total=len(PROFILES))
            last = write_all(landing, end=end, on_written=lambda world: progress.advance(task))
    ui.step("Samples", f"landing files in {landing}, up to {last}")
    return last


def _compute(first: date, last: date, files: int) -> None:
    from dagster_project import runs

    with ui.spinner(f"One Dagster run: {files} files, then {first} to {last}"):
        computed = runs.compute_metrics(first, last, on_wait=lambda line: ui.step("Waiting", line))
    if not computed.succeeded:
        ui.fail(computed.why)
    ui.step("Metrics", f"{computed.row_count} rows in run {computed.run_id}")


def up(
    port: Annotated[int, typer.Option(help="Port of the UI.", min=1, max=65_535)] = 3000,
    host: Annotated[str, typer.Option(help="Address the UI listens on.")] = "127.0.0.1",
) -> None:
    """The Dagster UI and daemon on the configured database, until Ctrl-C."""
    from dagster_project import database, runs
    from dagster_project.instance import instance, prepare_home
    from dagster_project.lib import dbt
    from dagster_project.settings import REPOSITORY

    _refuse_port(host, port)
    database.prepare()
    dbt.project()
    with instance() as running:
        runs.end_lost_runs(running)
    environment = {**os.environ, **prepare_home()}
    workspace = ["-w", str(REPOSITORY / "workspace.yaml")]
    commands = (
        ["dagster-webserver", *workspace, "--host", host, "--port", str(port)],
        ["dagster-daemon", "run", *workspace],
    )
    typer.echo(f"Dagster UI: http://{host}:{port}  (Ctrl-C stops it; the database keeps running)")
    folder = Path(sys.executable).parent
    processes = [
        subprocess.Popen([str(folder / command[0]), *command[1:]], env=environment, cwd=REPOSITORY)  # noqa: S603
        for command in commands
    ]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ended = None
    try:
        # One without the other is half a platform: when either ends, both do.
        ended, _ = os.wait()
    except KeyboardInterrupt:
        pass
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait()
    if ended is not None:
        name = next(
            command[0] for command, process in zip(commands, processes, strict=True) if process.pid == ended
        )
        ui.fail(f"{name} ended by itself: what it said stands above")


def _refuse_port(host: str, port: int) -> None:
    """Raises RevenueOsError for a port that cannot be listened on, before anything is started."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            ui.fail(f"port {port} of {host} cannot be used ({error}): choose another with --port")
