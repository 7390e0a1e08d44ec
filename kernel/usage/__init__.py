"""Usage: what counts as one billable event, and what it is invoiced from."""
