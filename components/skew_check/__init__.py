"""Asks a model in every way before it is published: the answers must be the same."""
