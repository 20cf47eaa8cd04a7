"""A random process that is known completely: its entropies, its text, the probability of any text.

A process is unifilar: the state and the symbol that it emits give the next state (Shalizi and
Crutchfield 2001, arXiv:cond-mat/9907176). So whoever knows the state keeps knowing it, a symbol
costs what the state's row says, and the entropy rate is the mean of the rows' entropies (Shannon
1948, doi:10.1002/j.1538-7305.1948.tb01338.x). All entropies are in nats, exact up to float64. Where
a process comes from is not known here.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

# As objects of Python, the uniform numbers of a long text would take gigabytes.
DRAWN_AT_ONCE = 2**16


@dataclasses.dataclass(frozen=True, eq=False)
class Process:
    """A stationary unifilar process over the characters of `alphabet`.

    `odds_SV` float64 is p(symbol | state), `next_SV` the state that follows both. Every state can
    be reached from every other. S states, V symbols.
    """

    alphabet: str
    odds_SV: np.ndarray
    next_SV: np.ndarray

    @functools.cached_property
    def stationary_S(self) -> np.ndarray:
        """The share of time spent in each state: the only distribution that a step preserves.

        Elimination without subtractions, which keeps every digit of the smallest share (Grassmann,
        Taksar and Heyman 1985, doi:10.1287/opre.33.5.1107). Takes time cubic in S.
        """
        flow_SS = self.transitions_SS()
        for last in range(len(flow_SS) - 1, 0, -1):  # leave a state out, and lead around it
            flow_SS[:last, last] /= flow_SS[last, :last].sum()
            flow_SS[:last, :last] += np.outer(flow_SS[:last, last], flow_SS[last, :last])
        shares_S = np.ones(len(flow_SS))
        for state in range(1, len(flow_SS)):
            shares_S[state] = shares_S[:state] @ flow_SS[:state, state]
        return shares_S / shares_S.sum()

    @functools.cached_property
    def entropy_rate(self) -> float:
        """H(symbol | all symbols before it): no model can lose less, on average."""
        return float(self.stationary_S @ _entropy(self.odds_SV))

    def transitions_SS(self) -> np.ndarray:
        """p(next state | state), whatever the symbol."""
        S = len(self.odds_SV)
        places_SV = np.arange(S)[:, None] * S + self.next_SV
        return np.bincount(places_SV.ravel(), self.odds_SV.ravel(), S * S).reshape(S, S)


def conditional_entropy(process: Process, k: int) -> float:
    """H(symbol | the k symbols before it): no model that sees only those can lose less.

    H(blocks of k + 1) - H(blocks of k), Shannon's F, which falls to the entropy rate. Takes memory
    for S V^(k + 1) numbers.
    """
    shorter, longer = itertools.islice(_blocks(process), k, k + 2)
    return float(_entropy(longer) - _entropy(shorter))


def _blocks(process: Process) -> Iterator[np.ndarray]:
    """p(block) for all blocks of 0, 1, 2, ... symbols, in the order of the alphabet."""
    S, V = process.odds_SV.shape
    joint_WS = process.stationary_S[None]  # p(block, the state after it)
    while True:
        yield joint_WS.sum(axis=1)
        W = len(joint_WS)
        places_WSV = np.arange(W * V).reshape(W, 1, V) * S + process.next_SV
        longer_WSV = joint_WS[:, :, None] * process.odds_SV
        joint_WS = np.bincount(places_WSV.ravel(), longer_WSV.ravel(), W * V * S).reshape(W * V, S)


def _entropy(odds: np.ndarray) -> np.ndarray:
    """-Σ p ln p along the last axis, where 0 ln 0 is 0."""
    return -np.sum(odds * np.log(np.where(odds > 0, odds, 1.0)), axis=-1)


def write_text(process: Process, length: int, seed: int) -> str:
    """So many characters of the process, from a stationary start; a function of `seed` alone.

    A shorter text is the beginning of a longer one.
    """
    generator = np.random.default_rng((seed, 1))  # the rows were drawn with `seed`
    # Without the last bound no rounding can leave a draw beyond it.
    bounds = np.cumsum(process.odds_SV, axis=1)[:, :-1].tolist()
    following = process.next_SV.tolist()
    state = bisect_right(np.cumsum(process.stationary_S)[:-1].tolist(), generator.random())
    symbols = bytearray()
    for first in range(0, length, DRAWN_AT_ONCE):
        for share in generator.random(min(DRAWN_AT_ONCE, length - first)).tolist():
            symbol = bisect_right(bounds[state], share)
            symbols.append(symbol)
            state = following[state][symbol]
    return symbols.translate(process.alphabet.encode().ljust(256)).decode()


def measure_surprise(process: Process, text: str) -> np.ndarray:
    """-ln p(character | all characters before it) of each character of a text, in nats.

    The belief about the state is carried along, from the stationary one (the forward algorithm:
    Baum et al. 1970, doi:10.1214/aoms/1177697196), until only one state is left; from there on
    the text itself tells the state. Infinite from the first character on that cannot follow; raises
    KeyError for one that is not of the alphabet.
    """
    index = {character: symbol for symbol, character in enumerate(process.alphabet)}
    symbols = [index[character] for character in text]
    nats_T = np.full(len(text), np.inf)
    belief_S, known = process.stationary_S, 0
    while known < len(text) and np.count_nonzero(belief_S) > 1:
        symbol = symbols[known]
        joint_S = belief_S * process.odds_SV[:, symbol]
        probability = joint_S.sum()
        if probability == 0:
            return nats_T
        nats_T[known] = -np.log(probability)
        belief_S = np.bincount(process.next_SV[:, symbol], joint_S / probability, len(belief_S))
        known += 1
    following, rest = process.next_SV.tolist(), symbols[known:]
    states = itertools.accumulate(
        rest, lambda state, symbol: following[state][symbol], initial=int(belief_S.argmax())
    )
    odds_T = process.odds_SV[list(states)[:-1], rest]
    possible_T = np.logical_and.accumulate(odds_T > 0)
    nats_T[known:][possible_T] = -np.log(odds_T[possible_T])
    return nats_T


def log_probability(process: Process, text: str) -> float | None:
    """ln p(text) from a stationary start, or None for a text that the process never writes."""
    if not set(text) <= set(process.alphabet):
        return None
    nats = float(measure_surprise(process, text).sum())
    return -nats if nats < np.inf else None
