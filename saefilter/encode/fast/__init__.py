"""Faster ways to the same residuals."""
