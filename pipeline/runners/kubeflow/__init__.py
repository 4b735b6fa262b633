"""The pipeline on Kubeflow Pipelines: what is compiled, what its steps run, and the client that submits it."""
