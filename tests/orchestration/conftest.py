"""Fixtures of the tests that tick sensors and run jobs."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:  # one on disk takes a second to make
        yield made
