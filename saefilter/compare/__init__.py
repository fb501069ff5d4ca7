"""Strategies side by side on one scored dataset: the rankings, what they find, where they differ."""
