"""The one configuration of a run, its sections and its presets."""
