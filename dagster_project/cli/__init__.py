"""The `revenue-os` command: one module per group, each with an `app`, registered here by one line.

A group's module imports heavy libraries inside its commands only, so that --help answers at once.
"""

from __future__ import annotations

import typer

from dagster_project.cli import (
    actions,
    bench,
    books,
    campaign,
    certify,
    db,
    decide,
    demo,
    load,
    login,
    metrics,
    sample,
    tenant,
    usage,
)
from dagster_project.cli.ui import SentenceErrors

app = typer.Typer(
    name="revenue-os",
    help="Runs the money side of many companies as one nightly pipeline.",
    cls=SentenceErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(demo.up)
app.command()(load.load)
app.command()(load.loads)
app.command()(load.rejected)
app.add_typer(decide.app, name="decide")
app.add_typer(actions.app, name="actions")
app.add_typer(campaign.app, name="campaign")
app.add_typer(books.app, name="books")
app.add_typer(bench.app, name="bench")
app.add_typer(certify.app, name="certify")
app.add_typer(db.app, name="db")
tenant.app.command()(login.login)
app.add_typer(tenant.app, name="tenant")
app.add_typer(sample.app, name="sample")
app.add_typer(metrics.app, name="metrics")
app.add_typer(usage.app, name="usage")
