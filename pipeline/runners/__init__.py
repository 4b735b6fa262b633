"""Who runs the DAG: this machine, Kubeflow Pipelines, Vertex AI."""
