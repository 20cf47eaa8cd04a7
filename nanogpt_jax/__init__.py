"""Small GPTs in JAX: train, inspect, measure. Importing the package imports nothing else."""

__version__ = "0.1.0"
