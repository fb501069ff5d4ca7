"""Benchmarks: each script or package here is one command that measures and writes its figures."""
