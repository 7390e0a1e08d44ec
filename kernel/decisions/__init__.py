"""The decision kernel: contract, gates, constraint, candidates, scoring. Pure: no database, no clock, no randomness."""
