"""Numbers about a trained model, each with its error, its size and how it was made, or the reason why there is none."""
