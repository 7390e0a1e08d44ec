"""Sample tenants whose true numbers are known: made from a seed, written as landing files with the truth beside.

Metrics are not computed here; tests compute them from the truth and compare.
"""

from samples.files import read_truth, write, write_all, written
from samples.profiles import PROFILES, Profile, tenants
from samples.world import DAYS, END, SEED, ConfigVersion, Coverage, Tenant, Truth, World, generate

__all__ = [
    "DAYS",
    "END",
    "PROFILES",
    "SEED",
    "ConfigVersion",
    "Coverage",
    "Profile",
    "Tenant",
    "Truth",
    "World",
    "generate",
    "read_truth",
    "tenants",
    "write",
    "write_all",
    "written",
]
