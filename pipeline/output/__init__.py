"""What runs leave in their output folder and in ML Metadata."""
