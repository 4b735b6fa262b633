"""A package in which each kind of setting is used."""

from __future__ import annotations

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


def compile_package(*more: str) -> str:
    from ctr.pipeline.runners.kubeflow.package import PackageWriter
    from ctr.pipeline.settings.pipeline_config import load_preset

    return PackageWriter().run(load_preset("kubeflow", (*SETTINGS, *more)))
