"""`hf:FOLDER` and `hf://ORGANISATION/NAME[@REVISION]`: where the files of a model lie.

A repository of the hub is brought into the cache once, a folder for each commit. Only what
`pretrained` reads is brought: config.json, tokenizer.json and safetensors.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from nanogpt_jax.data.network.hub import Subject, ask, download, endpoint, is_offline
from nanogpt_jax.data.store import cache_directory
from nanogpt_jax.errors import ConfigError, DataError
from nanogpt_jax.interop.weights import INDEX, WEIGHTS, named_in
from nanogpt_jax.tokenization.writing import write_whole

FORM = "hf:FOLDER or hf://ORGANISATION/NAME[@REVISION]"
WANTED = ("config.json", "tokenizer.json")
LISTING_BYTES = 2**24

_REPOSITORY = re.compile(r"//([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile("[0-9a-f]{40}")


class _File(NamedTuple):
    size_bytes: int
    sha256: str | None  # of what the hub keeps apart, as it does with everything large


class _Repository(NamedTuple):
    address: str
    name: str
    revision: str

    @property
    def subject(self) -> Subject:
        return Subject(
            self.address,
            checked="its name and revision",
            instead="start from a folder with hf:FOLDER",
        )

    @property
    def cache(self) -> Path:
        return cache_directory() / "hf" / "models" / self.name.replace("/", "--")

    @property
    def reference(self) -> Path:
        """Holds the commit that the revision was when all of its files were brought."""
        return self.cache / "revisions" / quote(self.revision, safe="")


def bring(address: str) -> Path:
    """The folder with the files of a model; ConfigError for an address of neither form."""
    rest = address.removeprefix("hf:")
    if not rest.startswith("//"):
        folder = Path(rest).expanduser().resolve()
        if not rest or rest == address or not folder.is_dir():
            raise ConfigError(f"{address}: there is no such folder; {FORM} is required")
        return folder
    matched = _REPOSITORY.fullmatch(rest)
    if matched is None or {".", ".."} & {*matched[1].split("/"), *(matched[2] or "").split("/")}:
        raise ConfigError(f"{address} is not of the form {FORM}")
    return _bring(_Repository(address, matched[1], matched[2] or "main"))


def _bring(repository: _Repository) -> Path:
    reference = repository.reference
    fixed = _COMMIT.fullmatch(repository.revision) is not None
    if reference.is_file() and (fixed or is_offline()):
        return repository.cache / reference.read_text(encoding="ascii")
    commit, files = _list(repository)
    folder = repository.cache / commit
    wanted = [*WANTED, INDEX if INDEX in files else WEIGHTS]
    for name in wanted:
        _bring_file(repository, commit, name, files)
    if INDEX in files:
        for name in named_in((folder / INDEX).read_bytes(), f"{repository.address}: {INDEX}"):
            _bring_file(repository, commit, name, files)
    write_whole(reference, commit)
    return folder


def _list(repository: _Repository) -> tuple[str, dict[str, _File]]:
    """The commit of the revision, and its files by name."""
    place = f"{endpoint()}/api/models/{repository.name}/revision/{quote(repository.revision, '')}"
    content = ask(f"{place}?blobs=true", repository.subject, limit_bytes=LISTING_BYTES)
    try:
        info = json.loads(content)
        files = {
            str(file["rfilename"]): _File(int(file["size"]), (file.get("lfs") or {}).get("sha256"))
            for file in info["siblings"]
        }
        commit = str(info["sha"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{place} described no model; check HF_ENDPOINT") from error
    if not _COMMIT.fullmatch(commit):  # it becomes the name of a folder
        raise DataError(f"{place} named the commit {commit!r}; check HF_ENDPOINT")
    return commit, files


def _bring_file(repository: _Repository, commit: str, name: str, files: dict[str, _File]) -> None:
    """Brings one file into the cache, unless it is there."""
    path = repository.cache / commit / name
    if path.exists():
        return
    if name not in files:
        raise DataError(
            f"{repository.address} has no {name}; a model with safetensors and a tokenizer.json "
            "is required"
        )
    url = f"{endpoint()}/{repository.name}/resolve/{commit}/{quote(name)}"
    size_bytes, sha256 = files[name]
    download(url, path, repository.subject, size=size_bytes, sha256=sha256)
