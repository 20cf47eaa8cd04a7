"""What `hf://...` and the environment ask for: the grammar alone, nothing is looked up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from nanogpt_jax.data.network.http import Retries
from nanogpt_jax.data.network.hub import Subject
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.registry import unknown

FORM = "hf://ORG/DATASET[@REVISION][?config=&split=&column=&rows=&offset=]"
NUMBERS = {"rows": 1, "offset": 0}  # and the least that each may be
KEYS = ("config", "split", "column", *NUMBERS, "limit")
ROWS_ENDPOINT = "https://datasets-server.huggingface.co"

_WORD = re.compile(r"[A-Za-z0-9._-]+")
_INTEGER = re.compile(r"[0-9]{1,15}")


class Selection(NamedTuple):
    """Rows of one column of a dataset; `rows` None: all that follow `offset`."""

    dataset: str
    revision: str | None = None
    config: str = "default"
    split: str = "train"
    column: str = "text"
    rows: int | None = None
    offset: int = 0

    @property
    def name(self) -> str:
        """The dataset as errors name it."""
        return f"hf://{self.dataset}" + (f"@{self.revision}" if self.revision else "")

    @property
    def subject(self) -> Subject:
        """The dataset as the hub is asked for it."""
        return Subject(
            self.name,
            checked="its name, revision, config and split",
            instead="read files of your own with files:PATH",
        )


class Knobs(NamedTuple):
    """How the rows API is asked: where, how patiently, with which pause between two pages."""

    endpoint: str
    pause_seconds: float
    retries: Retries


def parse(argument: str) -> Selection:
    """What follows `hf:`; ConfigError has every problem of it."""
    address, mark, query = argument.partition("?")
    organisation, slash, rest = address.removeprefix("//").partition("/")
    if not address.startswith("//") or not slash or "/" in rest:
        raise ConfigError(f"data.source='hf:{argument}' is not of the form {FORM}")
    name, at, revision = rest.partition("@")
    problems: list[str] = []
    options = _read_query(query, problems) if mark else {}
    words = {"organisation": organisation, "dataset": name, "revision": revision, **options}
    for key, value in words.items():
        if key in NUMBERS:
            if not _INTEGER.fullmatch(value) or int(value) < NUMBERS[key]:
                problems.append(f"{key}={value!r} is no integer of at least {NUMBERS[key]}")
        elif not _is_word(key, value) and (key != "revision" or at):
            problems.append(
                f"{key}={value!r} is not of letters, digits, dots, underscores and hyphens"
            )
    if problems:
        raise ConfigError([f"data.source='hf:{argument}': {problem}" for problem in problems])
    rows, offset = options.pop("rows", None), options.pop("offset", "0")
    return Selection(
        f"{organisation}/{name}",
        revision or None,
        **options,
        rows=None if rows is None else int(rows),
        offset=int(offset),
    )


def _read_query(query: str, problems: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in query.split("&"):
        key, equals, value = pair.partition("=")
        field = "rows" if key == "limit" else key
        if not pair:
            problems.append("an option is empty; write ?key=value&key=value")
        elif key not in KEYS:
            problems.append(unknown("option", key, KEYS))
        elif not equals or not value:
            problems.append(f"option {key!r} has no value; write {key}=VALUE")
        elif field in options:
            problems.append(f"option {field!r} is given twice")
        else:
            options[field] = value
    return options


def _is_word(key: str, value: str) -> bool:
    # A configuration may be named after a folder.
    pieces = value.split("/") if key == "config" else [value]
    return all(_WORD.fullmatch(piece) and piece not in (".", "..") for piece in pieces)


def read_knobs(environment: Mapping[str, str]) -> Knobs:
    """The knobs that the environment sets; ConfigError has every one that is wrong."""
    problems: list[str] = []

    def integer(name: str, default: int) -> int:
        value = environment.get(name) or str(default)
        if not _INTEGER.fullmatch(value):
            problems.append(f"{name}={value!r} is no integer of at least 0; unset it or correct it")
            return default
        return int(value)

    knobs = Knobs(
        endpoint=(environment.get("NANOGPT_HF_ROWS_ENDPOINT") or ROWS_ENDPOINT).rstrip("/"),
        pause_seconds=integer("NANOGPT_HF_REQUEST_DELAY_MS", 250) / 1000,
        retries=Retries(
            integer("NANOGPT_HF_MAX_RETRIES", 6),
            integer("NANOGPT_HF_RETRY_BASE_DELAY_MS", 1000) / 1000,
        ),
    )
    if not knobs.endpoint.startswith(("https://", "http://")):
        problems.append(f"NANOGPT_HF_ROWS_ENDPOINT={knobs.endpoint!r} is no https:// address")
    if problems:
        raise ConfigError(problems)
    return knobs
