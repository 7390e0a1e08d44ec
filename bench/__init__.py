"""Measured workloads: figures come from here, as ratios taken in one run, never from a timed test."""
