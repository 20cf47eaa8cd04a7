"""What a request may ask for: caps on its size, and how often a client may come.

A cap is a field of `Caps`, and so a flag of the server and a variable `NANOGPT_JAX_<FIELD>`; the
flag wins. Who a client is, and what a refusal looks like, is decided elsewhere.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

from nanogpt_jax.registry import fields_of, non_negative, positive

PREFIX = "NANOGPT_JAX_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caps:
    """The most that the server does for one request, one client, and at once."""

    max_prompt_bytes: Annotated[int, "longest prompt, in UTF-8", positive] = 8192
    max_tokens: Annotated[int, "most tokens of one generation", positive] = 512
    max_payload_bytes: Annotated[int, "largest answer that shows a model's inside", positive] = (
        8 << 20
    )
    rate: Annotated[float, "requests a second of one client; 0 = no limit", non_negative] = 5.0
    burst: Annotated[int, "requests that one client may make at once", positive] = 10
    max_train_steps: Annotated[int, "longest run that a request may start", positive] = 100_000
    max_learning_rate: Annotated[float, "highest rate of such a run", positive] = 1.0
    slots: Annotated[int, "generations that share one step of the model", positive] = 8
    queue_length: Annotated[int, "generations that wait for a slot", positive] = 16
    drain_seconds: Annotated[float, "what runs may finish before the server ends", non_negative] = (
        20.0
    )
    receive_seconds: Annotated[float, "deadline of a whole request", positive] = 10.0
    write_seconds: Annotated[float, "patience with a client that does not read", positive] = 20.0


def flags_from(environment: Mapping[str, str]) -> list[str]:
    """The caps that variables set, as flags: put before those that were typed, they lose to them.

    What a value must be is checked where flags are read.
    """
    variables = {name: PREFIX + name.upper() for name in fields_of(Caps)}
    return [
        f"--{name}={environment[variable]}"
        for name, variable in variables.items()
        if variable in environment
    ]


class _Bucket(NamedTuple):
    """What a client had left when it last came."""

    tokens: float
    seconds: float


class Buckets:
    """A token bucket for each client: it starts full with `burst`, and gains `rate` a second.

    A rate of 0 limits nothing. Only the `most_clients` that came last are remembered, so memory is
    bounded; who is forgotten starts full. For one thread: that of the event loop.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        most_clients: int = 10_000,
    ):
        self._rate, self._burst = rate, burst
        self._clock, self._most_clients = clock, most_clients
        self._held: OrderedDict[str, _Bucket] = OrderedDict()  # who came last stands last

    def __len__(self) -> int:
        """The number of clients that are remembered."""
        return len(self._held)

    def take(self, client: str, cost: float = 1.0) -> int:
        """Takes `cost` tokens and returns 0, or takes none and returns the seconds to wait.

        More than a full bucket holds costs the full bucket.
        """
        if self._rate == 0:
            return 0
        now, cost = self._clock(), min(cost, self._burst)
        before = self._held.pop(client, _Bucket(self._burst, now))
        tokens = min(self._burst, before.tokens + self._rate * (now - before.seconds))
        missing = cost - tokens
        self._held[client] = _Bucket(tokens - cost if missing <= 0 else tokens, now)
        if len(self._held) > self._most_clients:
            self._held.popitem(last=False)
        return 0 if missing <= 0 else max(1, math.ceil(missing / self._rate))
