"""What the Evaluator step runs."""

from __future__ import annotations

import os

import apache_beam as beam
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import io_utils, path_utils

from ctr.components import keys
from ctr.components.artifacts import Artifacts, Properties
from ctr.components.direct_beam import keep_beam_here
from ctr.components.evaluator import tfma_files
from ctr.components.evaluator.component import BASELINES_KEY, COMPARISON_KEY
from ctr.components.evaluator.scoring import ScoreShard
from ctr.components.evaluator.settings import EvaluatorSettings
from ctr.components.examples.shards import list_shards, unfinished_folder
from ctr.components.scoring.evaluation import BLESSED, EVALUATION_FILE, MODEL, Evaluation
from ctr.components.scoring.judge import COMPARISON_WORDS, Comparison, judge
from ctr.components.scoring.scored_shards import ScoredShard, joined, list_scored, scored_path
from ctr.components.settings import SETTINGS_KEY
from ctr.models.errors import DataError
from ctr.models.impression import EVAL_SPLIT


class Executor(base_beam_executor.BaseBeamExecutor):
    """Scores with Beam, a shard a worker; judges in this process."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Runs the step; see :class:`ctr.components.evaluator.component.Evaluator`.

        Raises:
          DataError: if Baselines' columns are of other impressions, or the candidate cannot score these.
        """
        keep_beam_here()
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = EvaluatorSettings.model_validate_json(exec_properties[SETTINGS_KEY])
        compare = settings.evaluation.compare_with_blessed
        [candidate], blessed = input_dict[keys.MODEL], input_dict.get(keys.BASELINE_MODEL, []) if compare else []
        models = {MODEL: candidate, **({BLESSED: blessed[0]} if blessed else {})}
        folders = {scorer: path_utils.serving_model_path(model.uri) for scorer, model in models.items()}
        examples = artifact_utils.get_split_uri(input_dict[keys.EXAMPLES], EVAL_SPLIT)
        evaluation, blessing = (
            artifact_utils.get_single_instance(output_dict[key]) for key in (keys.EVALUATION, keys.BLESSING)
        )
        self._score(examples, artifact_utils.get_single_uri(input_dict[BASELINES_KEY]), folders, evaluation.uri)
        shards = [ScoredShard.read(path) for path in list_scored(evaluation.uri)]
        scored = joined([shard.scored for shard in shards])
        refused = next((shard.not_scored[BLESSED] for shard in shards if shard.not_scored), "")
        found = judge(scored, settings.evaluation, settings.judged_set, *_comparison(compare, bool(blessed), refused))

        io_utils.write_string_file(os.path.join(evaluation.uri, EVALUATION_FILE), found.model_dump_json(indent=2))
        scorers = {scorer: folder for scorer, folder in folders.items() if scorer in scored.scores}
        tfma_files.write(found, scored, scorers, examples, evaluation.uri)
        _bless(found, blessing, candidate, blessed)
        for artifact in (evaluation, blessing):
            artifact.set_string_custom_property(COMPARISON_KEY, found.verdict.comparison)

    def _score(self, examples: str, baselines: str, folders: dict[str, str], evaluation: str) -> None:
        """Writes every shard of the split with the models' scores."""
        columns = {os.path.basename(path) for path in list_scored(baselines)}
        shards = []
        for raw in list_shards(examples):
            source, target = scored_path(baselines, raw), scored_path(evaluation, raw)
            if os.path.basename(source) not in columns:
                raise DataError(
                    f"{source} is not there: Baselines wrote no columns of {raw}; delete its output and run again"
                )
            shards.append((raw, source, target))
        with self._make_beam_pipeline() as pipeline:
            _ = pipeline | "Shards" >> beam.Create(shards) | "ScoreShard" >> beam.ParDo(ScoreShard(folders, evaluation))
        fileio.rmtree(unfinished_folder(evaluation))


def _comparison(compare: bool, blessed: bool, refused: str) -> tuple[Comparison, str]:
    """With the blessed model, and why there is none in words, where it refused the impressions."""
    if not compare:
        return "switched_off", ""
    if not blessed:
        return "first", ""
    return ("incompatible", f"{COMPARISON_WORDS['incompatible']} Because {refused}.") if refused else ("compared", "")


def _bless(evaluation: Evaluation, blessing: Artifact, candidate: Artifact, blessed: list[Artifact]) -> None:
    """Marks the model as TFX's Evaluator does."""
    blessing.set_string_custom_property("current_model", candidate.uri)
    blessing.set_int_custom_property("current_model_id", candidate.id)
    for model in blessed:
        blessing.set_string_custom_property("baseline_model", model.uri)
        blessing.set_int_custom_property("baseline_model_id", model.id)
    verdict = evaluation.verdict
    io_utils.write_string_file(os.path.join(blessing.uri, "BLESSED" if verdict.blessed else "NOT_BLESSED"), "")
    blessing.set_int_custom_property("blessed", int(verdict.blessed))
