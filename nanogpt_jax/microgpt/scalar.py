"""A GPT that learns to invent names, on single numbers: the whole algorithm, and only Python.

Read it from top to bottom. A `Value` is a number that knows the slope of a result in it. A `Corpus`
makes tokens of names. A `GPT` reads tokens one by one and scores what may follow; training changes
its weights until the names surprise it less. Then it writes names of its own, by `sample`.

The algorithm, and every random draw, are those of Karpathy's microgpt (2026). Nothing here is done
to be fast: `matrix` and `jax_engine` are this file again, in seconds instead of minutes.

Shapes live in names, `x_D` is a list of D: D width, F = 4 D hidden width, C numbers of a head,
S positions seen so far, V tokens in the vocabulary; I and O are any two lengths.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from operator import add, mul
from random import Random
from typing import Annotated, Literal


class Value:
    """A number, the numbers that it was computed from, and its slope in each of those."""

    __slots__ = ("data", "grad", "inputs", "slopes")

    def __init__(self, data: float, inputs: Sequence[Value] = (), slopes: Sequence[float] = ()):
        self.data, self.inputs, self.slopes = data, inputs, slopes
        self.grad = 0.0  # the slope of a result in this number, once `result.backward()` has run

    def __add__(self, other: Value | float) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: Value | float) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, power: float) -> Value:
        return Value(self.data**power, (self,), (power * self.data ** (power - 1),))

    def __sub__(self, other: Value | float) -> Value:
        return self + other * -1.0

    def __truediv__(self, other: Value | float) -> Value:
        return self * other**-1.0

    def exp(self) -> Value:
        return Value(math.exp(self.data), (self,), (math.exp(self.data),))

    def log(self) -> Value:
        return Value(math.log(self.data), (self,), (1.0 / self.data,))

    def relu(self) -> Value:
        return Value(max(self.data, 0.0), (self,), (float(self.data > 0.0),))

    def backward(self) -> None:
        """Adds to every number's `grad` the slope of this one in it: the chain rule.

        A number passes its slope on after all the numbers computed from it have passed on theirs.
        That order is found with a list as the stack: Python's own is too short for a deep result.
        """
        order: list[Value] = []  # inputs before results
        seen: set[Value] = set()
        stack = [(self, False)]
        while stack:
            result, after_inputs = stack.pop()
            if after_inputs:
                order.append(result)
            elif result not in seen:
                seen.add(result)
                stack.append((result, True))
                for value in result.inputs:
                    stack.append((value, False))
        self.grad = 1.0
        for result in reversed(order):
            for value, slope in zip(result.inputs, result.slopes, strict=True):
                value.grad += slope * result.grad


Vector = list[Value]
Matrix = list[Vector]
Cache = list[tuple[Matrix, Matrix]]  # keys_SD and values_SD of each layer
Numbers = dict[str, list[list[float]]]  # weights by name, before they are Values
Reader = Callable[[int], Sequence[float]]  # takes the next token, gives logits_V of the one after


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be chosen; the defaults are the original's."""

    num_steps: Annotated[int, "updates, one document each"] = 1000
    n_embd: Annotated[int, "width"] = 16
    n_layer: Annotated[int, "blocks of attention and MLP"] = 1
    block_size: Annotated[int, "longest context, in tokens"] = 16
    n_head: Annotated[int, "attention heads of a block"] = 4
    learning_rate: Annotated[float, "of the first update; it falls linearly, almost to 0"] = 0.01
    last_target: Annotated[Literal["next", "bos"], "of a document that is cut off"] = "next"
    temperature: Annotated[float, "of sampling: near 0 careful, 1 as learned"] = 0.5
    samples: Annotated[int, "names to invent"] = 20
    seed: Annotated[int, "of Python's random: order of documents, weights, samples"] = 42


class Corpus:
    """Documents, one a line, in the random order of training; a token is a character's number."""

    def __init__(self, text: str, stream: Random):
        self.documents = [line.strip() for line in text.split("\n") if line.strip()]
        stream.shuffle(self.documents)
        self.characters = sorted(set("".join(self.documents)))
        self.bos = len(self.characters)  # one more token, which begins and ends every document

    def window(self, step: int, settings: Settings) -> list[int]:
        """What a step learns from: each token but the last is read, each but the first told."""
        document = self.documents[step % len(self.documents)]
        letters = [self.characters.index(character) for character in document]
        tokens = [self.bos, *letters, self.bos][: settings.block_size + 1]
        return [*tokens[:-1], self.bos] if settings.last_target == "bos" else tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """The characters of tokens, among which is no BOS."""
        return "".join(self.characters[token] for token in tokens)


def draw_weights(stream: Random, vocab_size: int, settings: Settings) -> Numbers:
    """Normal draws of deviation 0.08, matrix by matrix, row by row; a row makes one output."""
    V, B, D, F = vocab_size, settings.block_size, settings.n_embd, 4 * settings.n_embd
    shapes = {"wte": (V, D), "wpe": (B, D), "lm_head": (V, D)}
    for i in range(settings.n_layer):
        shapes |= {f"layer{i}.{name}": (D, D) for name in ("wq", "wk", "wv", "wo")}
        shapes |= {f"layer{i}.fc1": (F, D), f"layer{i}.fc2": (D, F)}
    return {
        name: [[stream.gauss(0.0, 0.08) for _ in range(width)] for _ in range(rows)]
        for name, (rows, width) in shapes.items()
    }


def dot(x_I: Iterable[Value], y_I: Iterable[Value]) -> Value:
    """Σ x y."""
    return reduce(add, map(mul, x_I, y_I))


def linear(w_OI: Matrix, x_I: Vector) -> Vector:
    """W x."""
    return [dot(w_I, x_I) for w_I in w_OI]


def rms_norm(x_D: Vector) -> Vector:
    """x / sqrt(mean(x²) + 1e-5) (Zhang and Sennrich 2019, arXiv:1910.07467, without the gain)."""
    scale = (dot(x_D, x_D) / len(x_D) + 1e-5) ** -0.5
    return [x * scale for x in x_D]


def softmax(x_S: Vector) -> Vector:
    """exp(x) / Σ exp(x), of x less the largest, which changes nothing but cannot overflow."""
    largest = max(x.data for x in x_S)
    exp_S = [(x - largest).exp() for x in x_S]
    total = reduce(add, exp_S)
    return [exp / total for exp in exp_S]


def surprise(logits_V: Vector, target: int) -> Value:
    """-log softmax(logits)[target], in nats, without the quotient that may be 0."""
    largest = max(logit.data for logit in logits_V)
    total = reduce(add, [(logit - largest).exp() for logit in logits_V])
    return total.log() - (logits_V[target] - largest)


def attend(q_D: Vector, keys_SD: Matrix, values_SD: Matrix, n_head: int) -> Vector:
    """For each head, the mean of the values, weighted by how well their keys answer its query."""
    C = len(q_D) // n_head
    mixed_D: Vector = []
    for start in range(0, len(q_D), C):
        head = slice(start, start + C)
        weights_S = softmax([dot(q_D[head], k_D[head]) / C**0.5 for k_D in keys_SD])
        columns_CS = zip(*(v_D[head] for v_D in values_SD), strict=True)
        mixed_D += [dot(weights_S, column_S) for column_S in columns_CS]
    return mixed_D


class GPT:
    """A decoder-only transformer (Vaswani et al. 2017, arXiv:1706.03762), and how it learns."""

    def __init__(self, numbers: Numbers, settings: Settings):
        self.settings = settings
        self.weights = {
            name: [[*map(Value, row)] for row in rows] for name, rows in numbers.items()
        }

    def read(self, token: int, cache: Cache) -> Vector:
        """Logits_V of what follows `token`, which comes after those in `cache`, and joins them."""
        w, position = self.weights, len(cache[0][0])
        x_D = rms_norm([*map(add, w["wte"][token], w["wpe"][position])])
        for i, (keys_SD, values_SD) in enumerate(cache):
            n_D = rms_norm(x_D)
            keys_SD.append(linear(w[f"layer{i}.wk"], n_D))
            values_SD.append(linear(w[f"layer{i}.wv"], n_D))
            q_D = linear(w[f"layer{i}.wq"], n_D)
            mixed_D = attend(q_D, keys_SD, values_SD, self.settings.n_head)
            x_D = [*map(add, x_D, linear(w[f"layer{i}.wo"], mixed_D))]
            hidden_F = [h.relu() for h in linear(w[f"layer{i}.fc1"], rms_norm(x_D))]
            x_D = [*map(add, x_D, linear(w[f"layer{i}.fc2"], hidden_F))]
        return linear(w["lm_head"], x_D)

    def loss(self, tokens: list[int]) -> Value:
        """The mean surprise at each token after the first, in nats."""
        cache: Cache = [([], []) for _ in range(self.settings.n_layer)]
        nats = [surprise(self.read(token, cache), target) for token, target in pairwise(tokens)]
        return reduce(add, nats) / len(nats)

    def train(self, windows: Sequence[list[int]]) -> Iterator[float]:
        """One update of Adam (Kingma and Ba 2014, arXiv:1412.6980) a window; yields each loss."""
        weights = [w for rows in self.weights.values() for row in rows for w in row]
        means, squares = [0.0] * len(weights), [0.0] * len(weights)
        for step, tokens in enumerate(windows):
            loss = self.loss(tokens)
            loss.backward()
            rate = self.settings.learning_rate * (1 - step / len(windows))
            for i, w in enumerate(weights):
                means[i] = 0.85 * means[i] + 0.15 * w.grad
                squares[i] = 0.99 * squares[i] + 0.01 * w.grad**2
                mean = means[i] / (1 - 0.85 ** (step + 1))  # as if it had not begun at 0
                square = squares[i] / (1 - 0.99 ** (step + 1))
                w.data -= rate * mean / (square**0.5 + 1e-8)
                w.grad = 0.0
            yield loss.data

    def reader(self) -> Reader:
        """A function that is told a document, token by token, and scores each time what follows."""
        cache: Cache = [([], []) for _ in range(self.settings.n_layer)]
        return lambda token: [logit.data for logit in self.read(token, cache)]


def sample(read: Reader, bos: int, stream: Random, settings: Settings) -> list[int]:
    """The tokens of one invented document, each drawn after those before, until BOS is."""
    tokens = [bos]
    while len(tokens) <= settings.block_size:
        logits_V = read(tokens[-1])
        largest = max(logits_V)
        odds_V = [math.exp((logit - largest) / settings.temperature) for logit in logits_V]
        [token] = stream.choices(range(len(odds_V)), odds_V)
        if token == bos:
            break
        tokens.append(token)
    return tokens[1:]
