"""Many runs for one question: what is tried, in what order, where it runs, what it says.

A file with `get_sweep()` says what is tried (`space`); every trial is an ordinary run directory.
"""

from nanogpt_jax.sweep.space import chain, choice, loguniform, product, uniform, zip_
from nanogpt_jax.sweep.spec import Sweep

__all__ = ["Sweep", "chain", "choice", "loguniform", "product", "uniform", "zip_"]
