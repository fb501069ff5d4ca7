"""Rows shown to a person, one after the other, and what was decided on them."""
