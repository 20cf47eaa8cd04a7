"""Text of tokens that arrive one at a time, ended before the first stop string.

A stop string may span tokens, so text is held back while it can be the beginning of one. Stop
tokens need nothing of this: who draws them stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nanogpt_jax.tokenization.decoder import Decoder


class StopStrings:
    """Ends a text before any of some strings, whatever the pieces in which it comes.

    Of several stop strings that one counts which is complete first, of those the longest; so the
    pieces change nothing. An empty string stops nothing.
    """

    def __init__(self, stops: Iterable[str]):
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that is certain now: no part of it can be the beginning of a stop string."""
        if self.found is not None:
            return ""
        text = self._held + text
        ends = [
            (at + len(stop), -len(stop), stop)
            for stop in self._stops
            if (at := text.find(stop)) >= 0
        ]
        if ends:
            end, _, self.found = min(ends)
            certain = end - len(self.found)
        else:
            certain = len(text) - max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = "" if ends else text[certain:]
        return text[:certain]

    def flush(self) -> str:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


def write(tokens: Iterable[int], decoder: Decoder, stops: Iterable[str] = ()) -> Iterator[str]:
    """The text of `tokens` as it becomes certain, up to a stop string; no token is taken after it.

    Pieces may be empty: one comes for every token, and one at the end.
    """
    ending = StopStrings(stops)
    for token in tokens:
        yield ending.push(decoder.push(token))
        if ending.found is not None:
            return
    yield ending.push(decoder.flush()) + ending.flush()
