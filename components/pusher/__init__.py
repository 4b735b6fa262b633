"""Publishes a blessed model atomically."""
