"""`hf:FOLDER` and `hf://ORGANISATION/NAME[@REVISION]`: where the files of a model lie.

A repository of the hub is brought into the cache once, a folder for each commit. Address, token and
offline mode are those of huggingface_hub; the requests are our own. Only what `pretrained` reads is
brought: config.json, tokenizer.json and safetensors.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from absl import logging

from nanogpt_jax.data.network import http
from nanogpt_jax.data.store import cache_directory
from nanogpt_jax.errors import ConfigError, DataError
from nanogpt_jax.interop.weights import INDEX, WEIGHTS, named_in
from nanogpt_jax.tokenization.writing import write_whole

FORM = "hf:FOLDER or hf://ORGANISATION/NAME[@REVISION]"
WANTED = ("config.json", "tokenizer.json")
LISTING_BYTES = 2**24
# So much is lost when a connection breaks.
PIECE_BYTES = 2**25

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
    from huggingface_hub import constants

    reference = repository.reference
    fixed = _COMMIT.fullmatch(repository.revision) is not None
    if reference.is_file() and (fixed or constants.is_offline_mode()):
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
    place = f"{_endpoint()}/api/models/{repository.name}/revision/{quote(repository.revision, '')}"
    content = _ask(repository, f"{place}?blobs=true", limit_bytes=LISTING_BYTES)
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
    """Brings one file into the cache; what an earlier attempt brought of it is kept."""
    path = repository.cache / commit / name
    if path.exists():
        return
    if name not in files:
        raise DataError(
            f"{repository.address} has no {name}; a model with safetensors and a tokenizer.json "
            "is required"
        )
    wanted = files[name]
    url = f"{_endpoint()}/{repository.name}/resolve/{commit}/{quote(name)}"
    part = path.with_name(f".{name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            logging.info("bringing %s of %s, %d bytes", name, repository.address, wanted.size_bytes)
            while (start := file.tell()) < wanted.size_bytes:
                stop = min(start + PIECE_BYTES, wanted.size_bytes)
                # In pieces, because http.download sends no token, which some models ask for.
                file.write(_ask(repository, url, limit_bytes=stop, byte_range=(start, stop)))
        _require_whole(part, wanted, url)
        part.rename(path)
    except OSError as error:
        raise DataError(
            f"{url} cannot be written to {path} ({error.strerror}); make room there, or let "
            "NANOGPT_CACHE name another folder"
        ) from error


def _require_whole(part: Path, wanted: _File, url: str) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest() if wanted.sha256 else None
    if part.stat().st_size != wanted.size_bytes or found != wanted.sha256:
        part.unlink()
        raise DataError(f"{url} is not what the hub announced, and was dropped; try again")


def _ask(repository: _Repository, url: str, **options: Any) -> bytes:
    """http.fetch with the user's token."""
    from huggingface_hub import constants, get_token

    if constants.is_offline_mode():
        raise DataError(
            f"{repository.address} is not in the cache and HF_HUB_OFFLINE is set; unset it, or "
            "start from a folder with hf:FOLDER"
        )
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return http.fetch(url, headers=headers, **options)
    except http.Refused as refused:
        remedy = "check its name and revision"
        if refused.status in (401, 403):  # so is one that does not exist
            remedy += ", and whether HF_TOKEN may read it"
        raise DataError(f"{repository.address}: {refused}; {remedy}") from refused


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
