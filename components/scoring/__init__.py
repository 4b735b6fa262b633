"""Metrics over scored pairs, and the verdict on them; shared by the steps."""
