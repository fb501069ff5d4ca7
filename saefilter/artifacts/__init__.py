"""What saefilter writes: scores with their provenance, hashes of contents, publishing by rename."""
