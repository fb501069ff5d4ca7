"""Strategies: which of the scored rows to drop."""
