"""The laws: each takes a thing and asserts, so that third parties can run them on parts of their own."""
