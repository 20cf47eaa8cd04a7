"""Evaluation on held-out rows: loss per token and per byte, and the excess over a known entropy.

One compiled program, the same rows every time. Every mean comes with its standard error, rows
being independent (see `ratio`). Nothing here chooses rows or writes a metric down.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from nanogpt_jax.data.conversations import Turns
from nanogpt_jax.data.corpus import Truth
from nanogpt_jax.data.held_out import HeldOut
from nanogpt_jax.generate import Generator
from nanogpt_jax.interface import Array, Batch, LanguageModel, Params
from nanogpt_jax.losses import row_losses
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.tokenization import Tokenizer

# How documents are sampled to be judged and shown: what the README's `sample` command asks for.
JUDGED_AT = Sampling(temperature=0.8, top_k=40, top_p=0.95)

# Questions answered side by side.
ANSWERED_AT_ONCE = 64


class Evaluator:
    """Measures parameters on the same held-out rows, and samples them, in the same way each time.

    `truth` is the corpus's own distribution where it is known: whole held-out documents then give
    the excess over it, and `samples` sampled documents the share that is possible under it. With
    `prompt`, what is shown is its likeliest continuation. `place` lays batches out beside the
    parameters, and `whole` makes what is measured there readable here.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        held_out: HeldOut,
        *,
        context_length: int,
        truth: Truth | None = None,
        samples: int = 0,
        prompt: Sequence[int] | None = None,
        place: Callable[[Batch], Any] = jax.device_put,
        whole: Callable[[Any], Any] = lambda tree: tree,
    ):
        self._tokenizer = tokenizer
        self._held_out = held_out
        self._truth = truth
        self._samples = samples
        self._prompt = prompt
        self._generator = Generator(model, context_length)
        self._batches = [place(batch) for batch in held_out.batches]
        self._whole = whole
        self._measure = _measure(model, tokenizer)
        if truth is not None and not held_out.whole:
            logging.warning(
                "some held-out documents are longer than %d tokens: no val/excess_nats; "
                "use a longer train.seq_len or a larger vocabulary",
                held_out.length,
            )

    def __call__(self, params: Params) -> tuple[dict[str, float], str]:
        """All val/* metrics of `params`, and a sample of their text."""
        more, sample = self.sample(params)
        return self.measure(params) | more, sample

    def measure(self, params: Params) -> dict[str, float]:
        """The losses of `params` on held-out text."""
        measured = [self._measure(params, batch) for batch in self._batches]
        rows = np.concatenate(jax.device_get(self._whole(measured)), axis=1, dtype=np.float64)
        nats, tokens, size_bytes = rows[:, : self._held_out.rows]
        loss, loss_se = ratio(nats, tokens)
        per_byte, per_byte_se = ratio(nats, size_bytes)
        perplexity = math.exp(min(loss, 700.0))
        metrics = {
            "val/loss": loss,
            "val/loss_se": loss_se,
            "val/perplexity": perplexity,
            "val/perplexity_se": perplexity * loss_se,  # to first order
            "val/bits_per_byte": per_byte / math.log(2),
            "val/bits_per_byte_se": per_byte_se / math.log(2),
        }
        if self._truth is not None and self._held_out.whole:
            known, characters = self._held_out.nats, self._held_out.characters
            excess, excess_se = ratio(nats - known, characters)
            metrics |= {
                "val/excess_nats": excess,
                "val/excess_nats_se": excess_se,
                "val/entropy_nats": self._truth.entropy_nats_per_character,
            }
        return metrics

    def sample(self, params: Params) -> tuple[dict[str, float], str]:
        """What is told of the text that `params` write, where it can be judged, and some of it."""
        if self._held_out.questions:
            return self._answer(params)
        if self._prompt is not None or self._truth is None or not self._samples:
            return {}, self._text(params)
        texts = self._documents(params, self._samples)
        valid = sum(self._truth.log_probability(text) is not None for text in texts)
        return share("val/valid_stories", valid, len(texts)), texts[0]

    def _answer(self, params: Params) -> tuple[dict[str, float], str]:
        """The share of held-out questions answered exactly right, and one of them."""
        questions, turns = self._held_out.questions, Turns.of(self._tokenizer)
        greedy = [Sampling(temperature=0.0)] * ANSWERED_AT_ONCE
        answers: dict[int, list[int]] = {}
        for numbers in _side_by_side(questions, self._generator.context_length):
            prompts = [questions[number][0] for number in numbers]
            prompts += [prompts[0]] * (ANSWERED_AT_ONCE - len(prompts))  # one program for all
            # One token more than the longest, so that whoever goes on is seen to be wrong.
            most = 1 + max(len(questions[number][1]) for number in numbers)
            given = self._generator.complete(
                params, prompts, greedy, max_tokens=most, stop=turns.end
            )
            answers |= zip(numbers, given, strict=False)
        right = sum(answers[number] == answer for number, (_, answer) in enumerate(questions))
        sample = (
            self._tokenizer.decode(questions[0][0]) + " → " + self._tokenizer.decode(answers[0])
        )
        return share("val/exact_answers", right, len(questions)), sample

    def _documents(self, params: Params, count: int) -> list[str]:
        """Documents drawn as `JUDGED_AT` says, seeds 0 to count - 1."""
        prompts = [[self._tokenizer.bos_id]] * count
        drawn = self._generator.complete(
            params,
            prompts,
            [dataclasses.replace(JUDGED_AT, seed=seed) for seed in range(count)],
            max_tokens=self._generator.context_length,
            stop=self._tokenizer.bos_id,
        )
        return [self._tokenizer.decode(tokens) for tokens in drawn]

    def _text(self, params: Params, max_tokens: int = 300) -> str:
        """The prompt and its answer, else a text from a document's start or held-out words."""
        stop = self._tokenizer.stop_ids
        if self._prompt is not None:
            answer = self._generator.answer(params, self._prompt, stop=stop)
            return self._tokenizer.decode([*self._prompt, *answer])
        prompt = list(self._held_out.prompt)
        stream = self._generator.stream(params, prompt, JUDGED_AT, max_tokens=max_tokens, stop=stop)
        return self._tokenizer.decode([*prompt, *(drawn.token for drawn in stream)])


def _side_by_side(
    questions: Sequence[tuple[list[int], list[int]]], context_length: int
) -> Iterator[list[int]]:
    """The numbers of all questions, in batches whose longest prompt and answer fit together.

    Each is taken to fit alone. They come by length of prompt, for neighbours to be alike.
    """
    numbers, longest = [], 0  # of answers; the longest prompt is the last
    for number in sorted(range(len(questions)), key=lambda number: len(questions[number][0])):
        prompt, answer = map(len, questions[number])
        full = len(numbers) == ANSWERED_AT_ONCE
        if numbers and (full or prompt + max(longest, answer) > context_length):
            yield numbers
            numbers, longest = [], 0
        numbers.append(number)
        longest = max(longest, answer)
    yield numbers


def _measure(model: LanguageModel, tokenizer: Tokenizer) -> Callable[[Params, Batch], Array]:
    """(params, batch) -> loss in nats, tokens and bytes of each row, 3 x B."""
    bytes_V = jnp.asarray([len(token) for token in tokenizer.token_bytes], jnp.float32)

    @jax.jit
    def sums(params: Params, batch: Batch) -> Array:
        output = model.apply(params, batch.inputs_BT, segments_BT=batch.segments_BT)
        nats_B = row_losses(
            lambda hidden: model.unembed(params, hidden),
            output.hidden_BTD,
            batch.targets_BT,
            batch.weights_BT,
            vocab_size=tokenizer.vocab_size,
        )
        tokens_B = jnp.sum(batch.weights_BT, axis=1)
        bytes_B = jnp.sum(bytes_V[batch.targets_BT] * batch.weights_BT, axis=1)
        return jnp.stack((nats_B, tokens_B, bytes_B))

    return sums


def share(name: str, hits: int, count: int) -> dict[str, float]:
    """A share and its standard error, as metrics."""
    p = hits / count
    return {name: p, f"{name}_se": math.sqrt(p * (1 - p) / count)}


def ratio(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """r = Σ values / Σ weights over n independent rows, and its standard error.

    sqrt(n / (n - 1) Σ (value - r weight)²) / Σ weights; NaN for one row, which has no spread.
    """
    n, total = len(values), weights.sum()
    mean = values.sum() / total
    if n == 1:
        return float(mean), math.nan
    spread = np.square(values - mean * weights).sum() * n / (n - 1)
    return float(mean), float(math.sqrt(spread) / total)
