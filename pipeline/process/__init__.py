"""The process of a command: its terminal, its errors in words, and how it ends."""
