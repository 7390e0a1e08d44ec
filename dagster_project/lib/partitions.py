"""The one daily partitioning. A partition is a business day; tenants are a column and a run's scope."""

from __future__ import annotations

from functools import cache

import dagster as dg

from dagster_project.settings import settings


@cache
def daily() -> dg.DailyPartitionsDefinition:
    """Every asset starts on the same day, since backfills split where start dates differ."""
    return dg.DailyPartitionsDefinition(start_date=settings().partition_start.isoformat(), timezone="UTC")


def range_tags(first: str, last: str) -> dict[str, str]:
    """Run tags that make one run cover the partitions `first` to `last`, both included."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
