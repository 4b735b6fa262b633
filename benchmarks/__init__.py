"""Each prints a ratio to a peer or a floor measured in the same run: ``.venv/bin/python -m benchmarks.NAME``."""
