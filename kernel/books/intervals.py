"""How far a share that was counted may be from the true one."""

from __future__ import annotations

from math import sqrt

# Two-sided 95 %.
_Z = 1.959963984540054


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson (1927); (0, 1) where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    share, of_z = right / count, _Z * _Z / count
    middle = share + of_z / 2
    half = _Z * sqrt(share * (1 - share) / count + of_z / (4 * count))
    return max(0.0, (middle - half) / (1 + of_z)), min(1.0, (middle + half) / (1 + of_z))


def mean(values: list[float]) -> tuple[float, float, float]:
    """The mean with its 95 % interval by the normal approximation, for some hundreds of values."""
    count = len(values)
    middle = sum(values) / count
    spread = sqrt(sum((value - middle) ** 2 for value in values) / max(count - 1, 1))
    half = _Z * spread / sqrt(count)
    return middle, middle - half, middle + half
