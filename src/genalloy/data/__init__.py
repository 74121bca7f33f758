"""Data sets: where observations live, how files are read, and how samples go back to the user's own form."""
