"""A metric and a strategy for saefilter, found by their entry points."""
