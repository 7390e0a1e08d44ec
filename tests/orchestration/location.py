"""The code location, loaded once for all tests of a process: that takes seconds."""

from __future__ import annotations

from functools import cache

import dagster as dg

from dagster_project.definitions import defs


@cache
def location() -> dg.Definitions:
    return defs()
