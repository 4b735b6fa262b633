"""Negative samplers: which candidates a training impression is trained on."""
