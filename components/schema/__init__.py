"""The curated schema of raw impressions, ``impression.pbtxt``: what ExampleValidator holds every split to."""
