"""Rows of a dataset: read them, recognise their format, render them to tokens, write them back."""
