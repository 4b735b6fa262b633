"""Metrics, the gate and its verdict."""
