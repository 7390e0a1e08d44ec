"""Carries out suites with Great Expectations and gives back a plain Verdict.

The library takes seconds and 230 MB to import, so it is imported inside the functions, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from quality.suites import Suite
from quality.verdict import Finding, Verdict


def validate(frame: pd.DataFrame, suite: Suite) -> Verdict:
    """Checks a frame against a suite; the frame is not changed."""
    result = _batch(_context(), frame, suite.name).validate(_expectation_suite(suite))
    return _verdict(result, len(frame))


def write_data_docs(frames: Mapping[str, tuple[pd.DataFrame, Suite]], folder: Path) -> Path:
    """Validates each named frame and writes one browsable report of all of them; gives its first page."""
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction

    context = _context()
    site = {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
    }
    context.add_data_docs_site("local", site)
    for name, (frame, suite) in frames.items():
        definition = gx.ValidationDefinition(
            name=name, data=_definition(context, name), suite=context.suites.add(_expectation_suite(suite))
        )
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[context.validation_definitions.add(definition)],
            actions=[UpdateDataDocsAction(name="docs", site_names=["local"])],
        )
        context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
    return folder / "index.html"


def _context() -> Any:
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def _definition(context: Any, name: str) -> Any:
    asset = context.data_sources.add_or_update_pandas(name).add_dataframe_asset(name)
    return asset.add_batch_definition_whole_dataframe(name)


def _batch(context: Any, frame: pd.DataFrame, name: str) -> Any:
    return _definition(context, name).get_batch({"dataframe": frame})


def _expectation_suite(suite: Suite) -> Any:
    import great_expectations as gx

    made = [
        getattr(gx.expectations, item.kind)(
            **item.arguments, severity="critical" if item.blocking else "warning"
        )
        for item in suite.expectations
    ]
    return gx.ExpectationSuite(name=suite.name, expectations=made)


def _verdict(result: Any, rows: int) -> Verdict:
    findings = tuple(_finding(item) for item in result.results if not item.success)
    return Verdict(rows=rows, evaluated=len(result.results), findings=findings)


def _finding(item: Any) -> Finding:
    config = item.expectation_config
    arguments = config.kwargs
    column = arguments.get("column") or ", ".join(arguments.get("column_list", [])) or "(table)"
    return Finding(
        expectation=config.type,
        column=column,
        blocking=str(getattr(config.severity, "value", config.severity)) == "critical",
        unexpected=int(item.result.get("unexpected_count") or 0),
        detail=_detail(item),
    )


def _detail(item: Any) -> str:
    # A missing column is no exception: the reason hides in a dictionary keyed by metric ids.
    for info in (item.exception_info or {}).values():
        if isinstance(info, dict) and info.get("exception_message"):
            return str(info["exception_message"]).splitlines()[0]
    seen = item.result.get("partial_unexpected_list")
    if seen:
        return "for example " + ", ".join(dict.fromkeys(str(value) for value in seen[:3]))
    return f"observed {item.result.get('observed_value')}"
