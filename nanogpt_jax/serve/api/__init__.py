"""The routes of the server's APIs, a router in each file; all of them say no with `Refusal`."""

from nanogpt_jax.serve.asgi import Refusal

__all__ = ["Refusal"]
