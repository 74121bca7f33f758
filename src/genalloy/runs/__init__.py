"""Training runs on disk: planned, resumable, evaluated and compared."""
