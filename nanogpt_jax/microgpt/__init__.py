"""microgpt: one small algorithm, three times; `scalar` is where to begin.

An island: it imports nothing of nanogpt_jax, and nothing of nanogpt_jax imports it.
"""
