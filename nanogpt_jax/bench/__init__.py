"""Benchmarks: the same work done in several ways, in alternating rounds of one process run.

Times of one machine at one hour mean little; ratios of rounds that took turns mean something.
"""
