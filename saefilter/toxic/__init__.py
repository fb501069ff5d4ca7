"""Toxic sets: curated features of one SAE, with where they come from and how sure they are."""
