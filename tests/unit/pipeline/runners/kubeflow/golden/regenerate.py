"""Writes ``kubeflow.yaml`` again; run it by its path, and read the difference before you commit it."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

GOLDEN = Path(__file__).with_name("kubeflow.yaml")
ROOT = Path(__file__).parents[6]

SETTINGS = (
    "data=''",
    "kubeflow.image=registry.example/ctr-pipeline:0.1.0",
    "kubeflow.image_pull_secrets=[registry]",
    "kubeflow.service_account=ctr-pipeline",
    "kubeflow.env={TF_CPP_MIN_LOG_LEVEL: '1'}",
    "kubeflow.secret_files=[{secret: bucket-key, path: /var/secrets/bucket}]",
    "kubeflow.trainer.node_selector={cloud.google.com/gke-accelerator: nvidia-l4}",
    "kubeflow.trainer.cpu_request=6",
    "kubeflow.beam.memory_request=8Gi",
    "kubeflow.nodes={Evaluator: {cpu: 2, memory: 8Gi, retries: 0}}",
)


def golden_package() -> str:
    """Preset kubeflow with each kind of setting used, versions of packages left out."""
    from pipeline.runners.kubeflow.package import compile_kfp
    from pipeline.settings.pipeline_config import load_preset

    return compile_kfp(load_preset("kubeflow", SETTINGS)).replace(metadata.version("kfp"), "VERSION")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    GOLDEN.write_text(golden_package(), encoding="utf-8")
