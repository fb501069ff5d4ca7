"""The gate: a policy, the verdict on a dataset, and the ways to say it."""
