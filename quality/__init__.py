"""Suites over frames that Python consumes, their runner, and the reports people read."""
