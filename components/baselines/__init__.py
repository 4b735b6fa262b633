"""Trivial baselines on the pairs that the model is judged on."""
