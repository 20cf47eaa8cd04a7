"""Models of Hugging Face transformers as models of ours, and ours as theirs.

A file for each class says in tables what it has in common with `gpt`; the rest follows from them.
Nothing of transformers or torch is needed, and nothing is converted that would not give the same
logits.
"""

from nanogpt_jax.interop.family import Family
from nanogpt_jax.interop.pretrained import (
    FAMILIES,
    Pretrained,
    family_of,
    open_pretrained,
    write_pretrained,
)

__all__ = ["FAMILIES", "Family", "Pretrained", "family_of", "open_pretrained", "write_pretrained"]
