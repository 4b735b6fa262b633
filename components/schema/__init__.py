"""The schema of raw impressions: what ExampleValidator holds every split to."""
