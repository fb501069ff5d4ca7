"""saefilter: find and drop the fine-tuning samples that lie next to a model's toxic features."""

__version__ = "0.1.0"
