"""Benchmarks: each compares Lorewire with others in one run and prints ratios. See `make bench`."""
