"""Tokens to feature activations: presets, the truncated model, the SAE, batches, the encoder."""
