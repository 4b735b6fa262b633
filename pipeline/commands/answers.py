"""Results of commands as JSON documents, for programs; docs/command-line.md lists their keys.

A key is never renamed or given another meaning; new ones may come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.output.layout import Layout

if TYPE_CHECKING:
    from generator.behavior_log import GeneratorSummary
    from pipeline.runners.local import RunResult
    from pipeline.sweep.render import SweepReport
    from serving.impressions import Ranking


def of_runs(results: Sequence[RunResult]) -> dict[str, Any]:
    """Of ``run``: the first is the configured model's, those of ``also_train`` follow."""
    return {
        "runs": [
            {
                "run_id": result.run_id,
                "model": result.report.config["model"]["name"],
                "blessed": result.blessed,
                "pushed_version": result.pushed_version,
                "pushed_to": result.report.pushed_to,
                "pushed_earlier": result.pushed_earlier,
                "seconds": result.times,
                "cached": sorted(result.cached),
                "log": result.log,
                "report": result.report.model_dump(mode="json"),
            }
            for result in results
        ]
    }


def of_sweep(report: SweepReport, layout: Layout) -> dict[str, Any]:
    """Of ``sweep``."""
    return {"folder": layout.sweep, **report.model_dump(mode="json")}


def of_ranking(ranking: Ranking, history_length: int, chosen_item: int | None) -> dict[str, Any]:
    """Of ``predict``."""
    return {
        **ranking.model_dump(mode="json", exclude={"candidates"}),
        "history_length": history_length,
        "chosen_item_id": chosen_item,
        "candidates": ranking.model_dump(mode="json")["candidates"],
    }


def of_log(summary: GeneratorSummary) -> dict[str, Any]:
    """Of ``generate``."""
    return {
        "path": str(summary.path),
        "users": summary.users,
        "rows": summary.rows,
        "behaviors": summary.behaviors,
        "dirt": summary.dirt,
    }
