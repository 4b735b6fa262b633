"""The pipeline: its configuration, its DAG, its runners and its command line."""
