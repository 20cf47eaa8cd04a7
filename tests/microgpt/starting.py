"""A microgpt before its first step, as the command makes it."""

from random import Random
from types import ModuleType
from typing import Any, NamedTuple

from nanogpt_jax.microgpt.scalar import Corpus, Settings, draw_weights, sample


class Started(NamedTuple):
    """A model before its first step, and what it is trained and sampled with."""

    gpt: Any
    corpus: Corpus
    stream: Random
    settings: Settings

    def windows(self) -> list[list[int]]:
        return [self.corpus.window(step, self.settings) for step in range(self.settings.num_steps)]

    def losses(self) -> list[float]:
        return list(self.gpt.train(self.windows()))

    def names(self) -> list[str]:
        bos, stream, settings = self.corpus.bos, self.stream, self.settings
        tokens = [sample(self.gpt.reader(), bos, stream, settings) for _ in range(settings.samples)]
        return [self.corpus.decode(each) for each in tokens]


def start(engine: ModuleType, text: str, settings: Settings) -> Started:
    """What the command does before its first step."""
    stream = Random(settings.seed)
    corpus = Corpus(text, stream)
    numbers = draw_weights(stream, corpus.bos + 1, settings)
    return Started(engine.GPT(numbers, settings), corpus, stream, settings)
