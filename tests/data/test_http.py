"""GET from a server that misbehaves: what passes is repaired, what stays is named, in time."""

import fcntl
import hashlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanogpt_jax.data.network import connection, http
from nanogpt_jax.errors import DataError
from tests import hostile_server as hostile
from tests.hostile_server import Fault, HostileServer

CONTENT = bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    """A server that has CONTENT at /file, for a client with little patience."""
    monkeypatch.setattr(http, "RETRIES", http.Retries(5, 0.001))
    with HostileServer().serving() as running:
        hostile.make_impatient(monkeypatch, running)
        running.files["/file"] = CONTENT
        yield running


@pytest.fixture
def download(server: HostileServer, tmp_path: Path) -> Callable[..., bytes]:
    """Downloads /file and returns what stands under the final name; nothing else may stand."""

    def run(size: int | None = None, sha256: str | None = None) -> bytes:
        path = tmp_path / "folder" / "file"
        http.download(f"{server.url}/file", path, size=size, sha256=sha256)
        assert [entry.name for entry in path.parent.iterdir()] == ["file"]
        return path.read_bytes()

    return run


def problem(action: Callable[[], object], *, seconds: float = 5) -> str:
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        action()
    assert time.monotonic() - began < seconds
    message = str(caught.value)
    assert "\n" not in message and "/file" in message
    return message


def test_a_file_comes_whole_and_alone(download: Callable[..., bytes]):
    assert download() == CONTENT
    assert download(size=len(CONTENT), sha256=SHA256) == CONTENT


TRANSIENT = {
    "503 three times": [hostile.status(503)] * 3,
    "reset": [hostile.reset],
    "short": [hostile.short],
    "drip": [hostile.drip],
    "dripping headers": [hostile.drip_headers],
    "silence": [hostile.silent],
    "429": [hostile.status(429, Retry_After="0")],
    "one after the other": [hostile.reset, hostile.status(500), hostile.short, hostile.drip],
}


@pytest.mark.parametrize("faults", TRANSIENT.values(), ids=TRANSIENT.keys())
def test_what_passes_is_repaired(
    server: HostileServer, download: Callable[..., bytes], faults: list[Fault]
):
    server.faults["/file"] = iter(faults)
    assert download() == CONTENT
    assert len(server.requests) == len(faults) + 1
    server.faults["/file"] = iter(faults)
    assert http.fetch(f"{server.url}/file", limit_bytes=len(CONTENT)) == CONTENT


PERMANENT = {
    "503": (hostile.status(503, b"busy"), "503 Service Unavailable: busy, in the last of 2"),
    "reset": (hostile.reset, "broke off"),
    "drip": (hostile.drip, "less than 1000 bytes a second"),
    "silence": (hostile.silent, "in the last of 2 attempts"),
    "endless": (hostile.endless, "goes on after the 16384 bytes"),
    "redirects": (hostile.redirect("/file"), "more than 5 redirects"),
    "encoded": (hostile.status(200, b"", Content_Encoding="gzip"), "encoded as 'gzip'"),
    "401": (hostile.status(401, b"who\x1b[31m\nare you?" + b"?" * 999), "who [31m are you????"),
    "later": (hostile.status(429, Retry_After="3600"), "try again after 3600 s"),
}


@pytest.mark.parametrize(("fault", "words"), PERMANENT.values(), ids=PERMANENT.keys())
def test_what_stays_is_named_in_time_and_leaves_nothing(
    server: HostileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    words: str,
):
    monkeypatch.setattr(http, "RETRIES", http.Retries(1, 0.001))
    server.faults["/file"] = itertools.repeat(fault)
    url, path = f"{server.url}/file", tmp_path / "file"
    assert words in problem(lambda: http.download(url, path, size=len(CONTENT), sha256=SHA256))
    assert words in problem(lambda: http.fetch(url, limit_bytes=len(CONTENT)))
    assert not path.exists()


def test_six_attempts_are_made(server: HostileServer):
    server.faults["/file"] = itertools.repeat(hostile.status(500))
    problem(lambda: http.fetch(f"{server.url}/file", limit_bytes=1))
    assert len(server.requests) == 6


def test_a_client_error_is_not_repeated_and_is_quoted_shortly(server: HostileServer):
    server.faults["/file"] = itertools.repeat(hostile.status(404, b"x" * 5000))
    message = problem(lambda: http.fetch(f"{server.url}/file", limit_bytes=10))
    assert len(server.requests) == 1 and message.count("x") == 240


def test_a_wrong_hash_or_length_is_refused_and_not_kept(server: HostileServer, tmp_path: Path):
    url, path = f"{server.url}/file", tmp_path / "file"
    assert SHA256 in problem(lambda: http.download(url, path, sha256="0" * 64))
    assert "16384 bytes, 5 are" in problem(lambda: http.download(url, path, size=5))
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_end_nobody_knows_is_refused(server: HostileServer, tmp_path: Path):
    server.faults["/file"] = itertools.repeat(hostile.unbounded)
    url = f"{server.url}/file"
    assert "where it ends" in problem(lambda: http.download(url, tmp_path / "file"))
    assert "of 16384 bytes" in problem(
        lambda: http.download(url, tmp_path / "file", size=len(CONTENT))
    )


def test_a_broken_transfer_goes_on_where_it_broke(
    server: HostileServer, download: Callable[..., bytes]
):
    server.faults["/file"] = iter([hostile.short])
    assert download() == CONTENT
    resumed = server.requests[1].headers
    assert (
        resumed["range"] == f"bytes={len(CONTENT) // 2}-" and resumed["if-range"] == f'"{SHA256}"'
    )


def test_the_next_process_goes_on_where_the_last_one_gave_up(
    server: HostileServer, download: Callable[..., bytes]
):
    server.faults["/file"] = iter([hostile.short, *[hostile.status(503)] * 5])
    problem(download)
    assert download() == CONTENT
    assert server.requests[-1].headers["range"] == f"bytes={len(CONTENT) // 2}-"


def test_a_file_that_changed_between_two_attempts_comes_anew(
    server: HostileServer, download: Callable[..., bytes]
):
    server.faults["/file"] = iter([hostile.short, *[hostile.status(503)] * 5])
    problem(download)
    server.files["/file"] = b"another"
    assert download() == b"another"


def test_a_part_that_was_damaged_is_found_by_the_hash(
    server: HostileServer, download: Callable[..., bytes], tmp_path: Path
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".file.part").write_bytes(b"\0" * 10)
    assert download(sha256=SHA256) == CONTENT
    assert "range" in server.requests[0].headers and "range" not in server.requests[1].headers


def test_a_part_that_nothing_can_check_is_dropped(
    server: HostileServer, download: Callable[..., bytes], tmp_path: Path
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".file.part").write_bytes(b"\0" * 10)
    assert download() == CONTENT


def test_a_part_that_is_complete_needs_no_request(
    server: HostileServer, download: Callable[..., bytes], tmp_path: Path
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".file.part").write_bytes(CONTENT)
    assert download(size=len(CONTENT), sha256=SHA256) == CONTENT
    assert server.requests == []


def test_a_server_that_ignores_ranges_starts_again(
    server: HostileServer, download: Callable[..., bytes]
):
    server.faults["/file"] = iter([hostile.short, hostile.ignore_range])
    assert download(size=len(CONTENT)) == CONTENT


def test_a_server_that_gives_less_than_the_rest_is_asked_for_more(
    server: HostileServer, download: Callable[..., bytes]
):
    server.faults["/file"] = iter([hostile.short, hostile.stingy, hostile.stingy])
    assert download() == CONTENT
    assert [request.headers.get("range") for request in server.requests] == [
        None,
        "bytes=8192-",
        "bytes=12288-",
        "bytes=14336-",
    ]


def test_a_weak_name_of_a_version_is_not_trusted(
    server: HostileServer, download: Callable[..., bytes]
):
    weak = hostile.status(200, CONTENT[:9], ETag='W/"1"', Content_Length=str(len(CONTENT)))
    server.faults["/file"] = iter([weak])
    assert download() == CONTENT
    assert "range" not in server.requests[1].headers


def test_another_range_than_was_asked_for_is_refused(server: HostileServer):
    other = hostile.status(206, CONTENT[:9], Content_Range=f"bytes 0-8/{len(CONTENT)}")
    server.faults["/file"] = iter([other])
    assert "bytes 0-8/" in problem(
        lambda: http.fetch(f"{server.url}/file", limit_bytes=9, byte_range=(1, 10))
    )


def test_who_wants_the_same_file_waits_and_loads_it_once(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "file"
    arrivals, all_came, flock = itertools.count(1), threading.Event(), fcntl.flock

    def arrive(file: IO[bytes], operation: int) -> None:
        if next(arrivals) == 3:
            all_came.set()
        flock(file, operation)

    def short(handler: hostile.Handler, content: bytes) -> None:
        all_came.wait(hostile.GOOD_SECONDS / 2)  # who came later would find no part to wait for
        hostile.short(handler, content)

    monkeypatch.setattr(http.fcntl, "flock", arrive)
    server.faults["/file"] = iter([short])
    threads = [
        threading.Thread(target=http.download, args=(f"{server.url}/file", path)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all_came.is_set()
    assert path.read_bytes() == CONTENT and len(server.requests) == 2


@settings(max_examples=10)
@given(ends=st.lists(st.integers(0, len(CONTENT)), min_size=2, max_size=2, unique=True))
def test_a_range_is_that_slice_of_the_file(ends: list[int]):
    start, stop = sorted(ends)
    with HostileServer().serving() as server:
        server.files["/file"] = CONTENT
        server.faults["/file"] = iter([hostile.ignore_range])
        for _ in ("ignored", "kept"):
            found = http.fetch(
                f"{server.url}/file", limit_bytes=len(CONTENT), byte_range=(start, stop)
            )
            assert found == CONTENT[start:stop]


def test_a_range_beyond_the_end_is_refused(server: HostileServer):
    def fetch(start: int, stop: int) -> bytes:
        return http.fetch(f"{server.url}/file", limit_bytes=99, byte_range=(start, stop))

    end = len(CONTENT)
    assert f"before byte {end + 1}" in problem(lambda: fetch(end - 1, end + 1))
    assert "416" in problem(lambda: fetch(end, end + 2))
    server.faults["/file"] = itertools.repeat(hostile.ignore_range)
    assert "goes on after the 99 bytes" in problem(lambda: fetch(end - 2, end))


def test_another_host_is_never_told_the_token(server: HostileServer):
    with HostileServer().serving() as other:
        other.files["/file"] = b"there"
        server.faults["/file"] = iter([hostile.redirect("/moved")])
        server.faults["/moved"] = iter([hostile.redirect(f"{other.url}/file")])
        headers = {"Authorization": "Bearer secret", "X-Other": "1"}
        assert http.fetch(f"{server.url}/file", limit_bytes=99, headers=headers) == b"there"
    assert tokens_at(server) == ["Bearer secret"] * 2 and tokens_at(other) == [None]
    assert other.requests[0].headers["x-other"] == "1"


def test_a_download_tells_the_token_at_every_attempt_but_not_to_another_host(
    server: HostileServer, tmp_path: Path
):
    with HostileServer().serving() as other:
        other.files["/there"] = CONTENT
        other.faults["/there"] = iter([hostile.short])
        server.faults["/file"] = itertools.repeat(hostile.redirect(f"{other.url}/there"))
        headers = {"Authorization": "Bearer secret"}
        http.download(f"{server.url}/file", tmp_path / "file", headers=headers)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert tokens_at(server) == ["Bearer secret"] * 2 and tokens_at(other) == [None] * 2
    assert other.requests[1].headers["range"] == f"bytes={len(CONTENT) // 2}-"


def tokens_at(server: HostileServer) -> list[str | None]:
    return [request.headers.get("authorization") for request in server.requests]


def test_a_request_says_who_asks_and_asks_for_plain_bytes(server: HostileServer):
    http.fetch(f"{server.url}/file", limit_bytes=len(CONTENT))
    headers = server.requests[0].headers
    assert headers["user-agent"].startswith("nanogpt_jax/0.")
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "url",
    ["http://example.org/file", "file:///file", "ftp://example.org/file", "/file", "https:///file"],
)
def test_only_https_is_read_and_http_on_this_machine(url: str):
    assert "only https" in problem(lambda: http.fetch(url, limit_bytes=1))


@pytest.mark.parametrize("location", ["file:///file", "http://example.org/file", "//[::1/file"])
def test_a_redirect_may_not_lead_everywhere(server: HostileServer, location: str):
    server.faults["/file"] = itertools.repeat(hostile.redirect(location))
    message = problem(lambda: http.fetch(f"{server.url}/file", limit_bytes=1))
    assert "leads to" in message and len(server.requests) == 1


@pytest.mark.parametrize(
    ("source", "target", "allowed"),
    [
        ("https://8.8.8.8/file", "https://9.9.9.9/file", True),
        ("https://8.8.8.8/file", "http://127.0.0.1/file", False),
        ("https://8.8.8.8/file", "https://127.0.0.1/file", False),
        ("https://8.8.8.8/file", "https://10.0.0.1/file", False),
        ("https://8.8.8.8/file", "https://169.254.169.254/file", False),
        ("https://8.8.8.8/file", "https://[fe80::1]/file", False),
        ("https://8.8.8.8/file", "https://[::ffff:10.0.0.1]/file", False),
        ("https://10.0.0.1/file", "https://10.0.0.2/file", True),
        ("http://127.0.0.1/file", "http://[::1]/file", True),
        ("https://127.0.0.1/file", "http://127.0.0.1/file", False),
    ],
)
def test_a_public_address_leads_to_no_private_one(source: str, target: str, allowed: bool):
    def follow() -> None:
        connection.require_allowed(source, httpx2.URL(source), httpx2.URL(target))

    if allowed:
        follow()
    else:
        assert "not followed" in problem(follow)


def test_a_server_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch):
    with HostileServer().serving() as gone:
        url = f"{gone.url}/file"
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    assert "cannot be reached" in problem(lambda: http.fetch(url, limit_bytes=1))


def test_a_server_decides_how_long_to_wait_else_the_wait_doubles(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
):
    waits: list[float] = []
    monkeypatch.setattr(http, "RETRIES", http.Retries(9, 1.0))
    monkeypatch.setattr(http, "MAX_BACKOFF", 16)
    monkeypatch.setattr(http.time, "sleep", waits.append)
    server.faults["/file"] = iter(
        [hostile.status(429, Retry_After="7"), *[hostile.status(500)] * 8]
    )
    http.fetch(f"{server.url}/file", limit_bytes=len(CONTENT))
    assert waits[0] == 7
    for wait, longest in zip(waits[1:], [2, 4, 8, 16, 16, 16, 16, 16], strict=True):
        assert longest / 2 <= wait <= longest


def test_a_password_in_an_address_is_not_shown():
    url = "ftp://me:secret@more@example.org/file"
    message = problem(lambda: http.fetch(url, limit_bytes=1))
    assert "secret" not in message and "more" not in message


def test_a_folder_that_cannot_be_written_is_named(server: HostileServer, tmp_path: Path):
    (tmp_path / "taken").write_text("")
    message = problem(lambda: http.download(f"{server.url}/file", tmp_path / "taken" / "file"))
    assert "NANOGPT_CACHE" in message


def test_a_terminal_shows_a_bar_and_anything_else_a_line(
    server: HostileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    shown: list[str] = []
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        http.download(f"{server.url}/file", tmp_path / f"[b]{terminal}")
        shown.append(capsys.readouterr().err)
    assert "[b]True" in shown[0] and "16.4/16.4 kB" in shown[0]
    assert "kB" not in shown[1]
