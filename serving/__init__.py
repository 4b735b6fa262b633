"""The served model: a local server with TF Serving's gRPC API, and the client that ranks candidates with it."""
