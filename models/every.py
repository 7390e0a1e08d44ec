"""Every table, by importing all modules that hold some: for migrations, and whoever walks through `metadata`."""

from __future__ import annotations

from models import (
    actions,  # noqa: F401 - each import registers its tables
    books,  # noqa: F401
    books_learning,  # noqa: F401
    books_lines,  # noqa: F401
    books_release,  # noqa: F401
    decisions,  # noqa: F401
    delivery,  # noqa: F401
    ops,  # noqa: F401
    spine,  # noqa: F401
    usage,  # noqa: F401
)
from models.base import metadata

__all__ = ["metadata"]
