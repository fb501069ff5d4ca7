"""Making a toxic set: contrast data, the choice of features, weights, labels, calibration."""
