"""Sums and statistics: tallies, moments, sparse rows, AUROC. Knows nothing of models and files."""
