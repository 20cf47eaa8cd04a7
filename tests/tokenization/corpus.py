"""What the tokenizers of these tests learn from: contractions, scripts, and what looks special."""

from nanogpt_jax.tokenization.special import BOS

CORPUS = [
    "It's the first line of the text, the first of three.\r\n\r\n\tThe 2nd line isn't.\n",
    "Größe naïve 東京 मराठी 😀👩‍👧 e\u0301 1234567\n" * 3,
    f"A user may write {BOS} or <|endoftext|>.",
]
