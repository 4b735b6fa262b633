"""What the Evaluator step runs."""

from __future__ import annotations

import os

from tfx.components.evaluator import executor as tfx_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from ctr.components import keys
from ctr.components.artifacts import Artifacts, Properties
from ctr.components.direct_beam import keep_beam_here
from ctr.components.scoring.blessing import read_verdict
from ctr.components.scoring.verdict import VERDICT_FILE


class Executor(tfx_executor.Executor):
    """TFX's executor, after which the verdict lies beside its results, for those who do not load TFMA."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Runs the step."""
        keep_beam_here()
        super().Do(input_dict, output_dict, exec_properties)
        evaluation, blessing = (
            artifact_utils.get_single_uri(output_dict[key]) for key in (keys.EVALUATION, keys.BLESSING)
        )
        verdict = read_verdict(evaluation, blessing)
        io_utils.write_string_file(os.path.join(evaluation, VERDICT_FILE), verdict.model_dump_json(indent=2))
