"""What a side feature is worth: a model with it and without it, on the same impressions.

The log is the generator's (``generate --like exposures``): what an item costs changes from day to day, and each age
likes another price best, so that no id tells the one or the other. A click's probability without that term has an AUC
lower by 0.11 (``tests/unit/generator/test_generated_exposures.py``); how much of it a model finds is measured here.

It goes through ingest and Transform once. Then each variant is trained from several seeds: with all features that the
description ``exposures`` declares, without price and age, and without any. AUC is of what was shown in the last 20 % of
the log by time, at the logged positions.

    .venv/bin/python -m benchmarks.side_feature --users 1500 --seeds 3
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ctr.components.settings import TransformConfig
from ctr.models.impression import EVAL_SPLIT, SPLITS, TRAIN_SPLIT, VALIDATION_SPLIT, Feature, declare_features
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

OF_AGE_AND_PRICE: Final = ("price", "age_band")
VARIANTS: Final = {"nothing": (), "price and age": OF_AGE_AND_PRICE, "all features": None}
"""What is left out -> the declared names; None is all of them but the position."""
SETTINGS: Final = (
    "ingest.targets_per_user=null",
    "ingest.user_partitions=2",
    "training.epochs=4",
    "training.batch_size=64",
    "training.learning_rate=0.002",
)


def prepare(folder: Path, users: int, seed: int, settings: Sequence[str] = ()) -> PipelineConfig:
    """Writes the log, its impressions below ``examples`` and ``transformed``, ``catalogue`` and ``graph``."""
    import apache_beam as beam
    from google.protobuf import text_format
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import artifact_utils, standard_artifacts

    from ctr.components.artifacts import ImpressionCatalogue
    from ctr.components.direct_beam import keep_beam_here
    from ctr.components.impression_gen.build import run_ingest
    from ctr.components.impression_gen.sources import find_logs
    from ctr.components.schema.impression_schema import Ranges, impression_schema
    from ctr.components.transform.component import ImpressionTransformSettings
    from ctr.components.transform.executor import Executor
    from ctr.generator.behavior_log import generate
    from ctr.generator.generator_config import GeneratorConfig
    from ctr.models.impression import declared_features

    keep_beam_here()
    log = folder / "log"
    generate(GeneratorConfig(users=users, seed=seed, like="exposures"), log, lambda users: None)
    config = load_preset("demo", [*SETTINGS, *settings], dataset="exposures")
    examples, catalogue, quarantined = (str(folder / name) for name in ("examples", "catalogue", "quarantine"))
    with beam.Pipeline() as pipeline:
        files = find_logs(str(log), config.ingest.dataset).files
        run_ingest(pipeline, files, config.ingest, examples, catalogue, quarantined)
    (folder / "schema").mkdir()
    schema = impression_schema(Ranges.of(config.ingest), config.ingest.window)
    (folder / "schema/schema.pbtxt").write_text(text_format.MessageToString(schema))

    def artifact(kind: Any, name: str) -> list[Any]:
        made = kind()
        made.uri = str(folder / name)
        if kind is standard_artifacts.Examples:
            made.split_names = artifact_utils.encode_split_names(list(SPLITS))
        return [made]

    declared = tuple(declared_features())
    transform = ImpressionTransformSettings(**TransformConfig().model_dump(), features=declared)
    Executor(BaseBeamExecutor.Context(beam_pipeline_args=[], tmp_dir=str(folder / "tmp"))).Do(
        {
            "examples": artifact(standard_artifacts.Examples, "examples"),
            "schema": artifact(standard_artifacts.Schema, "schema"),
            "catalogue": artifact(ImpressionCatalogue, "catalogue"),
        },
        {
            "transform_graph": artifact(standard_artifacts.TransformGraph, "graph"),
            "transformed_examples": artifact(standard_artifacts.Examples, "transformed"),
        },
        {"settings": transform.model_dump_json()},
    )
    return config


def auc_without(folder: Path, config: PipelineConfig, left_out: Sequence[str] | None, seed: int) -> float:
    """Trains without some features of what :func:`prepare` wrote: the AUC on what was shown in the eval split.

    Args:
      folder: of :func:`prepare`.
      config: what it gave.
      left_out: declared names; None is all but the position.
      seed: of the training.
    """
    import tensorflow_transform as tft

    from ctr.components.examples.catalogue import Catalogue
    from ctr.components.examples.shards import list_shards
    from ctr.components.scoring.pairs import auc
    from ctr.components.trainer.settings import TrainerSettings
    from ctr.components.trainer.train import train
    from ctr.models.impression import SHOWN
    from ctr.pipeline.sweep.scoring import score

    def stays(row: Feature) -> bool:
        return row.served is not None or (left_out is not None and row.declared not in left_out)

    files = {split: list_shards(str(folder / "transformed" / f"Split-{split}")) for split in SPLITS}
    try:
        declare_features([row for row in config.ingest.dataset.rows if stays(row)])
        training = config.training.model_copy(update={"seed": seed})
        trained = train(
            TrainerSettings.of(config.model, config.sampler, training, config.ingest),
            transform=tft.TFTransformOutput(str(folder / "graph")),
            catalogue_size=len(Catalogue.read(str(folder / "catalogue")).item_ids),
            train_files=files[TRAIN_SPLIT],
            validation_files=files[VALIDATION_SPLIT],
        )
        return auc(score(trained.model, files[EVAL_SPLIT], config.ingest.history_length)[SHOWN])
    finally:
        declare_features(config.ingest.dataset.rows)


def table(found: Mapping[str, Sequence[float]]) -> str:
    """Of the AUCs of each variant, a seed each."""
    whole = statistics.mean(found["nothing"])
    lines = ["| left out | AUC | deviation | of the AUC with all |", "| --- | --- | --- | --- |"]
    for name, aucs in found.items():
        mean, spread = statistics.mean(aucs), statistics.stdev(aucs) if len(aucs) > 1 else 0.0
        lines.append(f"| {name} | {mean:.4f} | {spread:.4f} | {mean / whole:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="din")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = prepare(Path(folder), options.users, 7, [f"model.name={options.model}"])
        found = {
            name: [auc_without(Path(folder), config, left_out, seed) for seed in range(1, 1 + options.seeds)]
            for name, left_out in VARIANTS.items()
        }
    print(table(found), flush=True)


if __name__ == "__main__":
    main()
