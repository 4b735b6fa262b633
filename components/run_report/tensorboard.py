"""The numbers of a report as scalars for TensorBoard, beside the training's."""

from __future__ import annotations

from collections.abc import Iterator

from ctr.components.run_report.render import sets_of
from ctr.components.run_report.report import NEW_ITEM, Report
from ctr.components.scoring.evaluation import MODEL, Value


def scalars(report: Report) -> Iterator[tuple[str, float]]:
    """Tag and value: ``METRIC/SET`` of the model and its interval's ends, ``METRIC/SET less SCORER`` of differences."""
    for whole in sets_of(report):
        of_set = {"": whole, f"/{NEW_ITEM}": report.evaluation.of(whole.negative_set, NEW_ITEM)}
        for suffix, result in of_set.items():
            if result is not None:
                where = f"{whole.negative_set}{suffix}"
                for metric, value in result.metrics.get(MODEL, {}).items():
                    yield from _ends(f"{metric}/{where}", value)
                for scorer, differences in result.differences.items():
                    for metric, value in differences.items():
                        yield from _ends(f"{metric}/{where} less {scorer}", value)


def _ends(tag: str, value: Value) -> Iterator[tuple[str, float]]:
    for name, number in ((tag, value.value), (f"{tag} low", value.low), (f"{tag} high", value.high)):
        if number is not None:
            yield name.replace(":", "-"), number


def write_scalars(report: Report, folder: str) -> None:
    """Writes an event file into a folder; each run is one of TensorBoard's runs, at step 0."""
    import tensorflow as tf

    writer = tf.summary.create_file_writer(folder)
    with writer.as_default(step=0):
        for tag, value in scalars(report):
            tf.summary.scalar(tag, value)
    writer.close()
