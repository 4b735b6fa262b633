"""Ingest: a behaviour log becomes impressions."""
