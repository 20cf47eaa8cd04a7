"""64 requests alone, then amid each other: are their log-probabilities the same to the last bit?

python tests/serve/alone_and_amid.py RUN   prints how many tokens were drawn, and how many differ
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from nanogpt_jax.serve.service import Service
from tests.serve.test_engine import ask, several


def main(run: str) -> None:
    """Compares tokens and the bits of their log-probabilities."""
    engine = Service(Path(run), slots=4, queue_length=128).current().engine
    while engine.state == "loading":
        time.sleep(0.05)
    requests = several(64)
    alone = []
    for request in requests:
        ear = ask(engine, request)
        ear.wait()
        alone.append(ear.drawn)
    order = list(range(64))
    random.Random(1).shuffle(order)
    ears = {number: ask(engine, requests[number], client=str(number)) for number in order}
    for ear in ears.values():
        ear.wait()
    together = [ears[number].drawn for number in range(64)]
    tokens = [each.token for drawn in alone for each in drawn]
    assert tokens == [each.token for drawn in together for each in drawn]
    pairs = [
        pair
        for one, other in zip(alone, together, strict=True)
        for pair in zip(one, other, strict=True)
    ]
    print(len(pairs), sum(one.logprob.hex() != other.logprob.hex() for one, other in pairs))
    engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
