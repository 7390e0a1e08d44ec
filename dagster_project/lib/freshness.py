"""When a number is late."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import dagster as dg


@cache
def daily_run() -> dg.FreshnessPolicy:
    """One missed daily run is a warning before noon of the next day, and a failure soon after."""
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=30))
