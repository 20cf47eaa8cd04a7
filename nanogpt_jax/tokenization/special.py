"""The names of special tokens: ids that no text has, and what a tokenizer is given of them.

Words only: which ids they have is a tokenizer's matter, and chat.py puts them around messages.
"""

from __future__ import annotations

from typing import Literal

SpecialTokens = Literal["bos", "chat"]

BOS = "<|bos|>"
EOS = "<|eos|>"
# Who speaks in a conversation, and what an assistant's own tools are asked and answer.
ROLES = ("user", "assistant", "system")
TOOLS = ("python", "output")


def start_of(role: str) -> str:
    """The name of the token before what `role` says."""
    return f"<|{role}_start|>"


def end_of(role: str) -> str:
    """The name of the token after what `role` says."""
    return f"<|{role}_end|>"


def special_names(which: SpecialTokens) -> tuple[str, ...]:
    """The names that `which` stands for, in the order of their ids."""
    if which == "bos":
        return (BOS,)
    pairs = ((start_of(role), end_of(role)) for role in (*ROLES, *TOOLS))
    return (BOS, EOS, *(name for pair in pairs for name in pair))
