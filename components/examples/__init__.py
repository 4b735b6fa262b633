"""What the steps hand on: shards of impressions, the catalogue, the vocabularies."""
