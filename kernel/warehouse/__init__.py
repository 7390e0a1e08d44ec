"""Who may be computed, one computation at a time, and what became of each tenant."""
