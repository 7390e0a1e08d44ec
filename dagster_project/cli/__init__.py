"""The `revenue-os` command: one module per group, each with an `app`, registered here by one line.

A group's module imports heavy libraries inside its commands only, so that --help answers at once.
"""

from __future__ import annotations

import typer

from dagster_project.cli import bench, certify, db, demo, load, metrics, sample, tenant
from dagster_project.cli.ui import SentenceErrors

app = typer.Typer(
    name="revenue-os",
    help="Runs the money side of many companies as one nightly pipeline.",
    cls=SentenceErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(demo.up)
app.command()(load.load)
app.command()(load.rejected)
app.add_typer(bench.app, name="bench")
app.add_typer(certify.app, name="certify")
app.add_typer(db.app, name="db")
app.add_typer(tenant.app, name="tenant")
app.add_typer(sample.app, name="sample")
app.add_typer(metrics.app, name="metrics")
