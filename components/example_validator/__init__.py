"""Statistics: what the schema is held against."""
