"""Transform: ids to indices, and what is declared to codes."""
