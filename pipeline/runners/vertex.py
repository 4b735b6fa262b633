"""Writes the DAG down for Vertex AI, which takes TFX's own output."""

from __future__ import annotations

import os
import tempfile

from ctr.pipeline.runners.runner import ForCluster
from ctr.pipeline.settings.pipeline_config import PipelineConfig


class VertexWriter(ForCluster):
    """A ``PipelineSpec`` for Vertex AI. Its settings are those of the configuration: it has no parameters."""

    def run(self, config: PipelineConfig) -> str:
        """YAML of the specification."""
        self.check(config)
        from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

        from ctr.pipeline.dag import compile_dag

        runner_config = KubeflowV2DagRunnerConfig(
            display_name=config.pipeline_name, default_image=config.kubeflow.image, use_pipeline_spec_2_1=True
        )
        with tempfile.TemporaryDirectory() as folder:
            runner = KubeflowV2DagRunner(runner_config, output_dir=folder, output_filename="pipeline.yaml")
            runner.run(compile_dag(config, resolvers_of_tfx_alone=True).pipeline, write_out=True)
            with open(os.path.join(folder, "pipeline.yaml"), encoding="utf-8") as file:
                return file.read()
