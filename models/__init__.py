"""Models that score impressions; nothing of TFX."""
