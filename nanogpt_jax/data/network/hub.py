"""The Hugging Face hub: one GET of it, with the user's token, or not at all.

Address, token and offline mode are those of huggingface_hub. The requests are our own, because
every one of them must be bounded, and repeated in the same way. What lies where on the hub is not
known here: whoever asks makes the addresses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nanogpt_jax.data.network import http
from nanogpt_jax.errors import DataError


class Subject(NamedTuple):
    """What is asked for, as errors name it, and the remedies that they give."""

    name: str
    checked: str  # what may be wrong with it where the hub refuses
    instead: str  # what can be done where the hub may not be asked


def endpoint() -> str:
    """Where the hub is, without a slash at the end."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def is_offline() -> bool:
    """Whether the user wants nothing to be asked."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


def ask(
    url: str,
    subject: Subject,
    *,
    limit_bytes: int,
    byte_range: tuple[int, int] | None = None,
    retries: http.Retries | None = None,
) -> bytes:
    """http.fetch with the user's token."""
    with _access(subject) as headers:
        return http.fetch(
            url, limit_bytes=limit_bytes, headers=headers, byte_range=byte_range, retries=retries
        )


def download(
    url: str, path: Path, subject: Subject, *, size: int | None = None, sha256: str | None = None
) -> None:
    """http.download with the user's token."""
    with _access(subject) as headers:
        http.download(url, path, size=size, sha256=sha256, headers=headers)


@contextlib.contextmanager
def _access(subject: Subject) -> Iterator[Mapping[str, str]]:
    """The headers of a request by this user; a refusal of it becomes one of the subject.

    The DataError has the http.Refused as its cause.
    """
    from huggingface_hub import get_token

    if is_offline():
        raise DataError(
            f"{subject.name} is not in the cache and HF_HUB_OFFLINE is set; unset it, or "
            f"{subject.instead}"
        )
    token = get_token()
    try:
        yield {"Authorization": f"Bearer {token}"} if token else {}
    except http.Refused as refused:
        remedy = f"check {subject.checked}"
        if refused.status in (401, 403):  # so is one that does not exist
            remedy += ", and whether HF_TOKEN may read it"
        raise DataError(f"{subject.name}: {refused}; {remedy}") from refused
