"""Pictures in metadata: trends as images inside markdown, the one form the UI shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import dagster as dg
import pandas as pd


def trend_markdown(title: str, series: Mapping[str, pd.Series]) -> dg.MarkdownMetadataValue:
    """One small line chart; `series` maps a label to values indexed by date, gaps where nothing is known."""
    # Imported here: a code location that draws nothing should not pay for it.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.4), dpi=80, layout="constrained")
    axes = figure.subplots()
    for label, values in series.items():
        axes.plot(values.index, values.to_numpy(), label=label, linewidth=1.2)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    if series:
        axes.legend(
            title=title, title_fontsize=9, alignment="left", fontsize=7, frameon=False, ncols=4,
            loc="lower left", bbox_to_anchor=(0, 1.0),
        )  # fmt: skip
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return image_markdown(title, picture.getvalue())


def image_markdown(title: str, png: bytes) -> dg.MarkdownMetadataValue:
    """A picture that is there already."""
    encoded = base64.b64encode(png).decode("ascii")
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{encoded})")
