"""A pipeline file for TFX's own command line, which runs it as a script::

    tfx pipeline create --engine=local --pipeline_path=pipeline/runners/tfx_pipeline.py
    tfx run create --engine=local --pipeline_name=ctr

``--engine=beam`` runs it with BeamDagRunner, if the preset says ``runner: beam``. The preset stands in the environment
variable :data:`PRESET_ENV`.
"""

from __future__ import annotations

import os
from typing import Final

from ctr.pipeline.dag import create_pipeline
from ctr.pipeline.settings.pipeline_config import load_preset

PRESET_ENV: Final = "CTR_PRESET"
"""A name, or a YAML file that says ``data`` and what else a run needs; ``demo`` without it."""


def main() -> None:
    """Runs the pipeline once; raises what TFX raises where a step fails. The report says whether it was blessed."""
    from tfx.orchestration.beam.beam_dag_runner import BeamDagRunner
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    from ctr.components.direct_beam import keep_beam_here

    config = load_preset(os.environ.get(PRESET_ENV, "demo"))
    keep_beam_here()
    runner = BeamDagRunner() if config.runner == "beam" else LocalDagRunner()
    runner.run(create_pipeline(config))


if __name__ == "__main__":
    main()
