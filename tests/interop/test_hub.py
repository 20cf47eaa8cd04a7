"""Models brought from a hub into the cache: once, whole, with the user's token, or not at all."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from nanogpt_jax.data.network import http
from nanogpt_jax.errors import DataError
from nanogpt_jax.interop import hub, open_pretrained
from tests import hostile_server as hostile
from tests.hostile_server import HostileServer
from tests.interop.cases import CASES, learn, write

COMMIT = "c0ffee" * 6 + "cafe"
LISTING = "/api/models/o/m/revision/{}"
WEIGHTS = f"/o/m/resolve/{COMMIT}/model.safetensors"


class Hub:
    """The repository `o/m` on a hostile server, with the files of a folder."""

    def __init__(self, server: HostileServer, folder: Path):
        self.server = server
        for file in folder.iterdir():
            server.files[f"/o/m/resolve/{COMMIT}/{file.name}"] = file.read_bytes()
        self.describe("main")

    def describe(self, revision: str, commit: str = COMMIT) -> None:
        """Lets the hub know a revision."""

        def answer(_: dict[str, str]) -> object:
            return {"sha": commit, "siblings": siblings}

        siblings = [
            {
                "rfilename": path.rpartition("/")[2],
                "size": len(content),
                "lfs": {"sha256": hashlib.sha256(content).hexdigest()},
            }
            for path, content in self.server.files.items()
        ]
        self.server.answers[LISTING.format(revision)] = answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpt2")
    write(path, CASES["gpt2-classic"], learn())
    return path


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> Iterator[Hub]:
    """A hub, an empty cache, little patience and a token."""
    monkeypatch.setattr(http, "RETRIES", http.Retries(2, 0.001))
    monkeypatch.setenv("NANOGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    with HostileServer().serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        yield Hub(server, folder)


def test_a_model_of_the_hub_is_that_of_its_files(place: Hub, folder: Path):
    found, local = open_pretrained("hf://o/m"), open_pretrained(f"hf:{folder}")
    assert (found.config, found.tokenizer.sha256) == (local.config, local.tokenizer.sha256)
    assert found.folder != folder
    assert {request.headers["authorization"] for request in place.server.requests} == {
        "Bearer secret"
    }
    brought = {path.name for path in found.folder.iterdir()}
    assert brought == {"config.json", "tokenizer.json", "model.safetensors"}


def test_a_model_is_brought_once(place: Hub):
    first = hub.bring("hf://o/m")
    assert hub.bring("hf://o/m") == first
    assert len(place.server.asked(WEIGHTS)) == 1
    assert len(place.server.asked(LISTING.format("main"))) == 2  # it may have a new commit


def test_a_commit_that_was_brought_is_not_asked_for_again(place: Hub):
    place.describe(COMMIT)
    hub.bring(f"hf://o/m@{COMMIT}")
    asked = len(place.server.requests)
    hub.bring(f"hf://o/m@{COMMIT}")
    assert len(place.server.requests) == asked


def test_a_revision_is_asked_for_by_its_name(place: Hub):
    place.describe("v1.0")
    hub.bring("hf://o/m@v1.0")
    assert place.server.asked(LISTING.format("v1.0"))
    assert not place.server.asked(LISTING.format("main"))


def test_offline_what_was_brought_is_there_and_nothing_else(
    place: Hub, monkeypatch: pytest.MonkeyPatch
):
    found = hub.bring("hf://o/m")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.bring("hf://o/m") == found
    with pytest.raises(DataError, match="hf://o/other is not in the cache and HF_HUB_OFFLINE"):
        hub.bring("hf://o/other")


def test_what_an_earlier_attempt_brought_is_gone_on_with(place: Hub):
    half = len(place.server.files[WEIGHTS]) // 2
    place.server.faults[WEIGHTS] = iter([hostile.short, hostile.status(410, b"gone for now")])
    with pytest.raises(DataError, match=r"hf://o/m: .* answered 410 .*check its name and revision"):
        hub.bring("hf://o/m")
    found = hub.bring("hf://o/m")
    ranges = [request.headers.get("range") for request in place.server.asked(WEIGHTS)]
    assert ranges == [None, f"bytes={half}-", f"bytes={half}-"]
    assert {path.name for path in found.iterdir()} == {*hub.WANTED, "model.safetensors"}


def test_weights_that_lie_on_another_host_are_brought_without_the_token(place: Hub):
    with HostileServer().serving() as store:
        store.files["/blob"] = place.server.files[WEIGHTS]
        place.server.faults[WEIGHTS] = iter([hostile.redirect(f"{store.url}/blob")])
        found = hub.bring("hf://o/m")
    assert (found / "model.safetensors").read_bytes() == store.files["/blob"]
    (asked,) = store.requests
    assert "authorization" not in asked.headers


def test_weights_that_are_not_what_was_announced_are_dropped(place: Hub):
    good = place.server.files[WEIGHTS]
    place.server.files[WEIGHTS] = bytes(len(good))
    with pytest.raises(DataError, match=r"model.safetensors has the sha256 .* is required"):
        hub.bring("hf://o/m")
    place.server.files[WEIGHTS] = good + b"more"
    with pytest.raises(DataError, match=rf"{len(good) + 4} bytes, {len(good)} are required"):
        hub.bring("hf://o/m")
    place.server.files[WEIGHTS] = good
    assert (hub.bring("hf://o/m") / "model.safetensors").read_bytes() == good


def test_weights_in_several_files_are_brought_with_their_index(place: Hub):
    files = place.server.files
    content, index = files.pop(WEIGHTS), f"{WEIGHTS}.index.json"
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    files[index] = json.dumps({"weight_map": {"a": names[1], "b": names[0]}}).encode()
    for name in names:
        files[f"/o/m/resolve/{COMMIT}/{name}"] = content
    place.describe("main")
    assert {*names} < {path.name for path in hub.bring("hf://o/m").iterdir()}


def test_a_model_without_safetensors_is_refused(place: Hub):
    place.server.files[WEIGHTS.replace("model.safetensors", "pytorch_model.bin")] = (
        place.server.files.pop(WEIGHTS)
    )
    place.describe("main")
    with pytest.raises(DataError, match=r"hf://o/m has no model.safetensors; a model with"):
        hub.bring("hf://o/m")


def test_a_model_that_may_not_be_read_says_what_could_help(place: Hub):
    place.server.faults[LISTING.format("main")] = iter([hostile.status(401, b"gated")])
    with pytest.raises(DataError, match="whether HF_TOKEN may read it"):
        hub.bring("hf://o/m")


def test_an_answer_that_describes_no_model_is_refused(place: Hub):
    for content in (b"<html>", b"[]", b"{}", b"[" * 10_000):
        place.server.faults[LISTING.format("main")] = iter([hostile.status(200, content)])
        with pytest.raises(DataError, match="described no model; check HF_ENDPOINT"):
            hub.bring("hf://o/m")


@pytest.mark.parametrize("commit", ["main", "../../elsewhere", ""])
def test_a_commit_that_is_none_becomes_no_folder(place: Hub, commit: str):
    place.describe("main", commit)
    with pytest.raises(DataError, match="check HF_ENDPOINT"):
        hub.bring("hf://o/m")
