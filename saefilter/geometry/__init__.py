"""The geometry of features: who lies next to whom, and how close a sample is to toxic ones."""
