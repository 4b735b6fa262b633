"""Trains many models on one ingested and transformed data set, and compares them."""
