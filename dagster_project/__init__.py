"""Orchestration and the command line: thin bodies around `kernel`, the only package that imports dagster."""
