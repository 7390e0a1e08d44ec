"""How steps run, by configuration alone: APP_EXECUTOR names one of these."""

from __future__ import annotations

from importlib import import_module

import dagster as dg

_EXECUTORS = {
    "in_process": "dagster:in_process_executor",
    "multiprocess": "dagster:multiprocess_executor",
    "celery": "dagster_celery:celery_executor",
    "k8s": "dagster_k8s:k8s_job_executor",
}


def executor(name: str) -> dg.ExecutorDefinition:
    """The executor of that name; only its own library is imported. Raises KeyError for an unknown name."""
    module, _, attribute = _EXECUTORS[name].partition(":")
    return getattr(import_module(module), attribute)
