"""Transform: ids to indices."""
