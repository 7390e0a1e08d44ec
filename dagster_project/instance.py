"""The Dagster instance: its home folder, its database, and its quiet use inside a command."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from dagster_project import database
from dagster_project.settings import REPOSITORY, settings


def prepare_home() -> dict[str, str]:
    """Puts dagster.yaml where Dagster looks for it and gives the environment its processes need."""
    home = settings().home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(REPOSITORY / "deploy" / "dagster.yaml", home / "dagster.yaml")
    return {"DAGSTER_HOME": str(home), "DAGSTER_PG_URL": database.dagster_url()}


@contextmanager
def instance() -> Iterator[dg.DagsterInstance]:
    """The instance the UI shows too. Its log lines go to the run's record, not to the terminal."""
    os.environ.update(prepare_home())
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with dg.DagsterInstance.get() as running:
        yield running
