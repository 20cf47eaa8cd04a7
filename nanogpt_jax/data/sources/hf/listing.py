"""Which files of a dataset a selection means, at which commit, and where their bytes are.

The hub is asked what there is; no file is opened here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from nanogpt_jax.data.network import http, hub
from nanogpt_jax.data.sources.hf.layout import Shard, choose
from nanogpt_jax.data.sources.hf.selection import Selection
from nanogpt_jax.errors import DataError

CONVERTED = "refs/convert/parquet"
LISTING_BYTES = 2**28
SHOWN_FILES = 5


class Snapshot(NamedTuple):
    """The files of a selection at a commit, in order."""

    commit: str
    shards: Sequence[Shard]


def parse_object(content: bytes, place: str) -> Mapping[str, Any]:
    """The JSON object that was answered at `place`."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} answered something that is not JSON; try again later") from error
    if not isinstance(found, dict):
        raise DataError(f"{place} answered JSON that is no object; try again later")
    return found


def url_of(selection: Selection, snapshot: Snapshot, shard: Shard) -> str:
    """Where the bytes of a file are, for ever the same."""
    path = f"{snapshot.commit}/{quote(shard.path)}"
    return f"{hub.endpoint()}/datasets/{selection.dataset}/resolve/{path}"


def find(selection: Selection) -> Snapshot:
    """The Parquet files of a selection: the repository's own, else those that the hub made."""
    own = _describe(selection, selection.revision or "main")
    if chosen := choose(own.shards, own.configs, selection.config, selection.split):
        return Snapshot(own.commit, chosen)
    if selection.revision is None:  # what the hub made is of the main branch
        made = _describe_converted(selection)
        if chosen := choose(made.shards, (), selection.config, selection.split):
            return Snapshot(made.commit, chosen)
    paths = ", ".join(shard.path for shard in own.shards[:SHOWN_FILES]) or "none"
    configs = ", ".join(str(entry.get("config_name")) for entry in own.configs) or "none"
    raise DataError(
        f"{selection.name} has no Parquet file of config={selection.config} and "
        f"split={selection.split}; configs of its card: {configs}; its first Parquet files: {paths}"
    )


class _Description(NamedTuple):
    commit: str
    shards: Sequence[Shard] = ()
    configs: Sequence[Mapping[str, Any]] = ()


def _describe(selection: Selection, revision: str) -> _Description:
    """The commit of a revision, its files, and the configurations of its card."""
    place = f"{hub.endpoint()}/api/datasets/{selection.dataset}/revision/{quote(revision, safe='')}"
    content = hub.ask(f"{place}?blobs=true", selection.subject, limit_bytes=LISTING_BYTES)
    info = parse_object(content, place)
    try:
        shards = [
            Shard(str(file["rfilename"]), int(file["size"]), str(file.get("blobId")))
            for file in info.get("siblings") or ()
            if str(file["rfilename"]).endswith(".parquet")
        ]
        configs = (info.get("cardData") or {}).get("configs") or ()
        commit = info["sha"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{place} described no dataset; check HF_ENDPOINT") from error
    # Older cards have only names here.
    return _Description(
        str(commit), sorted(shards), [entry for entry in configs if isinstance(entry, dict)]
    )


def _describe_converted(selection: Selection) -> _Description:
    """What the hub made of the main branch; without files where it made nothing."""
    try:
        return _describe(selection, CONVERTED)
    except DataError as error:
        refused = error.__cause__
        if isinstance(refused, http.Refused) and refused.status == 404:
            return _Description("")
        raise
