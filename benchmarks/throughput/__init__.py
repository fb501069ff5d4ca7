"""Throughput of `saefilter score` beside the alternatives and the limits: python -m benchmarks.throughput"""
