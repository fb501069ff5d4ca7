"""What features and datasets look like beside the toxic features."""
