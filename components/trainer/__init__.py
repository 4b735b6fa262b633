"""Trainer: input pipeline, strategy, training loop, export."""
