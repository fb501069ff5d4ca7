"""Runs over a whole dataset: score it, filter it, and the files that carry the result."""
