"""transformers' continuous batching in the place of `serve.engine.Engine`.

The same weights in transformers' own class, with its own scheduler and paged cache: that makes
about three times the tokens of one request after the other. It draws greedily, as the benchmark
asks, lists no alternatives, and knows no fairness among clients. Nothing of it is needed to serve.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import threading
import time
from typing import Any

from nanogpt_jax.errors import MissingExtra
from nanogpt_jax.experiment import Loaded
from nanogpt_jax.interop import family_of
from nanogpt_jax.interop.weights import to_tensors
from nanogpt_jax.serve.engine import (
    SMOOTHING,
    Finish,
    Listener,
    NotServing,
    QueueFull,
    State,
    Stats,
)
from nanogpt_jax.serve.turns import share_of_one
from nanogpt_jax.slots import Drawn, Request

PAGE_TOKENS = 32
LOAD_SECONDS = 300.0


@dataclasses.dataclass(eq=False)
class Ticket:
    """A request under way, and how many of its tokens were told."""

    name: str
    request: Request
    listener: Listener
    client: str
    submitted: float
    told: int = 0


class TransformersEngine:
    """What `Engine` does, by a model of transformers: the same methods, bounds and answers.

    Requests are submitted from a coroutine, and their listeners are called in its event loop.
    """

    def __init__(self, run: Loaded, *, slots: int, queue_length: int):
        self._slots, self._queue_length = slots, queue_length
        self._context = run.shape.max_seq_len
        self._manager = _manager_of(run, slots)
        self._names = map(str, itertools.count())
        self._changed = threading.Condition()
        self._tickets: dict[str, Ticket] = {}
        self._warm = self._draining = False
        self._request_seconds = 1.0
        self._tokens = self._finished = self._cancelled = 0
        self._loading = threading.Thread(target=self._load, name="transformers", daemon=True)

    def start(self) -> None:
        """Begins to load."""
        self._manager.start()
        self._loading.start()

    @property
    def state(self) -> State:
        """`ready` once a token was made, as long as the manager's thread lives."""
        if self._draining:
            return "draining"
        if not self._manager.is_running():
            return "dead" if self._loading.ident else "loading"
        return "ready" if self._warm else "loading"

    def stats(self) -> Stats:
        """Numbers for a dashboard; the manager tells no steps, and drafts nothing."""
        with self._changed:
            active = min(len(self._tickets), self._slots)
            queued, free = len(self._tickets) - active, self._slots - active
            done = (self._tokens, self._finished, self._cancelled)
            return Stats(active, queued, free, *done, steps=0, drafted=0, accepted=0)

    def submit(self, request: Request, listener: Listener, *, client: str) -> Ticket:
        """Takes a request in, as `Engine.submit` does, as many as it would.

        ValueError for what is not measured: sampling, alternatives, a window that slides.
        """
        plain = request.sampling.temperature == 0 and request.sampling.repetition_penalty == 1
        if not plain or request.alternatives or request.overflow != "stop":
            raise ValueError("only greedy generation inside the context is measured here")
        if not 1 <= len(request.prompt) <= self._context:
            raise ValueError(f"a prompt of {len(request.prompt)} tokens does not fit")
        ticket = Ticket(next(self._names), request, listener, client, time.monotonic())
        with self._changed:
            self.check_room(client)
            self._tickets[ticket.name] = ticket
        self._manager.register_result_handler(ticket.name, functools.partial(self._tell, ticket))
        # The last token of all is drawn and not read, so it may stand one beyond the context.
        room = self._context - len(request.prompt) + 1
        self._manager.add_request(
            list(request.prompt),
            request_id=ticket.name,
            max_new_tokens=min(request.max_tokens, room),
            streaming=True,
            eos_token_id=sorted(request.stop),
        )
        return ticket

    def check_room(self, client: str) -> None:
        """Raises what `submit` would at this moment, whatever the request."""
        if (state := self.state) != "ready":
            raise NotServing(f"the engine is {state}; try again later")
        with self._changed:
            own = sum(each.client == client for each in self._tickets.values())
            own_most = self._slots + share_of_one(self._queue_length)
            if len(self._tickets) >= self._slots + self._queue_length or own >= own_most:
                raise QueueFull(self.busy_seconds())

    def busy_seconds(self) -> int:
        """After how many seconds whoever waits is likely to have begun."""
        with self._changed:
            return max(1, math.ceil(len(self._tickets) * self._request_seconds / self._slots))

    def cancel(self, ticket: Ticket) -> None:
        """Ends a request; nothing happens to one that has ended."""
        self._end(ticket, "cancelled")

    def drain(self, deadline_seconds: float) -> bool:
        """Takes in nothing more; whether all came to their own end in time."""
        with self._changed:
            self._draining = True
            done = self._changed.wait_for(lambda: not self._tickets, deadline_seconds)
        self._end_all("abort")
        return done

    def close(self, wait_seconds: float = 5.0) -> None:
        """Ends the manager; who is left hears `abort`."""
        self._draining = True
        self._end_all("abort")
        if self._manager.is_running():
            self._manager.stop(block=True, timeout=wait_seconds, hard_stop=True)

    def _load(self) -> None:
        self._manager.add_request([0], max_new_tokens=2)
        output = self._manager.get_result(timeout=LOAD_SECONDS)
        self._warm = output is not None and not output.error

    def _tell(self, ticket: Ticket, output: Any) -> None:
        """Hands over what the manager has drawn since the last time, in the event loop."""
        over = output.is_finished()
        for index in range(ticket.told, len(output.generated_tokens)):
            if ticket.name not in self._tickets:
                return
            drawn = Drawn(output.generated_tokens[index], output.logprobs[index])
            if drawn.token in ticket.request.stop:
                self._end(ticket, "stop", over=over)
                return
            ticket.told += 1
            self._tokens += 1
            if not ticket.listener.draw(drawn):
                self._end(ticket, "stop", over=over)
                return
        if over:
            self._end(ticket, "error" if output.error else "length", over=True)

    def _end(self, ticket: Ticket, reason: Finish, *, over: bool = False) -> None:
        """Lets a request go; `over`: the manager has let it go already."""
        with self._changed:
            if self._tickets.pop(ticket.name, None) is None:
                return
            if reason == "cancelled":
                self._cancelled += 1
            else:
                self._finished += 1
                seconds = time.monotonic() - ticket.submitted
                self._request_seconds += SMOOTHING * (seconds - self._request_seconds)
            self._changed.notify_all()
        if not over:
            self._manager.cancel_request(ticket.name)
        ticket.listener.finish(reason)

    def _end_all(self, reason: Finish) -> None:
        with self._changed:
            left = list(self._tickets.values())
        for ticket in left:
            self._end(ticket, reason)


def _manager_of(run: Loaded, slots: int) -> Any:
    """transformers' manager of the run's weights, with room for `slots` whole contexts."""
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtra("the comparison with transformers", "bench") from error

    family = family_of(run.plan.model_name, run.plan.model)
    nameless = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    settings = family.describe(run.plan.model, run.tokenizer.vocab_size) | nameless
    settings.pop("model_type")
    config = transformers.AutoConfig.for_model(family.model_type, **settings)
    model = getattr(transformers, family.architecture)(config)
    tensors = to_tensors(family, run.params, run.model.axes)
    # A tied head is the embedding once more, and has no tensor.
    model.load_state_dict({key: torch.tensor(each) for key, each in tensors.items()}, strict=False)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return model.init_continuous_batching(
        generation_config=transformers.GenerationConfig(do_sample=False, eos_token_id=-1),
        continuous_batching_config=transformers.ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=slots * math.ceil((run.shape.max_seq_len + 1) / PAGE_TOKENS),
            max_batch_tokens=max(run.shape.max_seq_len, 256),
            max_requests_per_batch=slots,
            return_logprobs=True,
        ),
    )
