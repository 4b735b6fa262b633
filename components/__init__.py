"""The steps of the pipeline, a folder each."""
