"""What takes long to make and several suites only read."""

from __future__ import annotations

import pytest

import samples
from samples import World


@pytest.fixture(scope="session")
def worlds() -> dict[str, World]:
    """Every kind of tenant at full size: it takes about two seconds."""
    return {profile.slug: samples.generate(profile) for profile in samples.PROFILES}
