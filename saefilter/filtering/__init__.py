"""Kept, dropped and quarantined rows, written and counted."""
