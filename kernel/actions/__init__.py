"""Carrying decisions out: lifecycle, acknowledgment, budgets, dispatch, executors, results."""
