"""scripts/dev, first_run and ready, started for real: processes, ports and a trained run."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.test_containers import last_of

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = REPOSITORY / "scripts"
WITHIN_SECONDS = 600  # on a machine that does other things as well
MARK = "NANOGPT_TEST_SESSION"


def run(script: str, *words: str | Path, **variables: str) -> tuple[int, str]:
    """Exit code and errors of a script that ends by itself."""
    ended = subprocess.run(
        [SCRIPTS / script, *words],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
    )
    return ended.returncode, ended.stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_until(holds: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Waits until a condition holds; fails when the process ends before, or it takes too long."""
    began = time.monotonic()
    while not holds():
        assert process.poll() is None, "it has ended"
        assert time.monotonic() - began < WITHIN_SECONDS
        time.sleep(0.2)


def get(port: int, path: str) -> bytes:
    """The answer to a request; nothing where nobody answers yet."""
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read()
    return b""


def left_of(mark: str) -> list[str]:
    """The processes that a session with this mark has started and that are still there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if f"{MARK}={mark}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@contextlib.contextmanager
def started(log: Path, *words: str | Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that goes on until it is told to end. What it says is in `log`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    # A shell that inherits an ignored SIGINT, as of a job in the background, can never trap it.
    try:
        with log.open("wb") as file:
            process = subprocess.Popen(
                words, env=os.environ | variables, stdout=file, stderr=file, cwd=log.parent
            )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WITHIN_SECONDS)


@dataclasses.dataclass
class Session:
    """What was seen of one start of scripts/dev on an empty folder, ended by Ctrl-C."""

    folder: Path
    said: str = ""
    page: str = ""
    module: str = ""
    steps: int = 0
    through_the_pages: bytes = b""
    running: int = 0
    exit_code: int | None = None
    left: list[str] = dataclasses.field(default_factory=list)
    open_ports: list[int] = dataclasses.field(default_factory=list)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    seen = Session(tmp_path_factory.mktemp("session"))
    log, mark = seen.folder / "log", str(seen.folder)
    api, pages = free_port(), free_port()
    flags = [f"--port={api}", f"--ui_port={pages}", "--runs=checkpoints"]
    with started(log, SCRIPTS / "dev", *flags, **{MARK: mark}) as process:
        wait_until(lambda: run("ready", str(api))[0] == 0 and get(pages, "/"), process)
        seen.page = get(pages, "/").decode()
        seen.module = get(pages, "/@vite/client").decode()
        seen.steps = len(json.loads(get(api, "/api/checkpoints"))["checkpoints"])
        seen.through_the_pages = get(pages, "/ready")
        (REPOSITORY / "nanogpt_jax/__init__.py").touch()
        wait_until(lambda: "the API starts anew" in log.read_text(), process)
        wait_until(lambda: log.read_text().count("serving tiny") >= 2, process)
        seen.running = len(left_of(mark))
        process.send_signal(signal.SIGINT)
        seen.exit_code = process.wait(WITHIN_SECONDS)
        seen.left = left_of(mark)
        seen.open_ports = [port for port in (api, pages) if get(port, "/health")]
    seen.said = log.read_text()
    return seen


@pytest.mark.slow
def test_an_empty_folder_gets_a_run_with_at_least_20_steps_to_look_at(session: Session) -> None:
    assert "found no usable run" in session.said and session.steps >= 20


@pytest.mark.slow
def test_a_folder_with_a_usable_run_gets_no_other(session: Session) -> None:
    assert run("first_run", session.folder / "checkpoints") == (0, "")
    assert [path.name for path in (session.folder / "checkpoints").iterdir()] == ["tiny"]


@pytest.mark.slow
def test_the_pages_answer_change_as_they_are_saved_and_pass_requests_on(session: Session) -> None:
    assert "<html" in session.page and "/@vite/client" in session.page
    assert "hmr" in session.module.lower()
    assert json.loads(session.through_the_pages) == {"state": "ready"}


@pytest.mark.slow
def test_a_changed_python_file_starts_the_api_anew(session: Session) -> None:
    assert "a Python file changed" in session.said


@pytest.mark.slow
def test_one_ctrl_c_ends_everything(session: Session) -> None:
    assert session.running >= 3, "the script, the API and the pages"
    assert (session.exit_code, session.left, session.open_ports) == (0, [], [])
    assert "Traceback" not in session.said


@pytest.mark.slow
def test_what_an_image_starts_is_ready_behind_its_keys(session: Session) -> None:
    port = free_port()
    command = [*last_of("server", "CMD"), f"--port={port}"]
    log = session.folder / "image-log"
    with started(log, SCRIPTS / "run", *command, NANOGPT_JAX_API_KEYS="a-key") as process:
        wait_until(lambda: run("ready", str(port))[0] == 0, process)
        assert get(port, "/api/checkpoints") == b"", "without a key nothing is answered"
    assert process.returncode == 0 and "serving tiny" in log.read_text()


@pytest.mark.slow  # the first call of all installs the packages
def test_a_check_says_what_would_be_started_and_starts_nothing(tmp_path: Path) -> None:
    api, pages = free_port(), free_port()
    words = [f"--port={api}", f"--ui_port={pages}", f"--runs={tmp_path}", "--check"]
    ended = subprocess.run([SCRIPTS / "dev", *words], capture_output=True, text=True, check=True)
    assert ended.stdout == (
        f"would serve the newest run of {tmp_path} at http://127.0.0.1:{api}, "
        f"and pages at http://127.0.0.1:{pages}\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--port", "--ui_port"])
def test_a_port_in_use_is_said_with_the_flag_that_names_another(flag: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        other = {"--port": "--ui_port", "--ui_port": "--port"}[flag]
        words = [f"{flag}={port}", f"{other}={free_port()}", f"--runs={tmp_path}", "--check"]
        code, errors = run("dev", *words)
    assert code == 1 and len(errors.splitlines()) == 1
    assert f"found something listening at port {port}, required a free one" in errors
    assert f"name another: {flag}=N" in errors


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--port=http"], "found --port=http, required the number of a port"),
        (["--ui_port=0"], "found --ui_port=0, required the number of a port"),
        (["--port=8000", "--ui_port=8000"], "found port 8000 for the API and the pages"),
        (["--reload"], "found --reload, required --port=N, --ui_port=N, --runs=FOLDER or --check"),
    ],
)
def test_a_wrong_flag_is_one_line(words: list[str], found: str) -> None:
    code, errors = run("dev", "--check", *words)
    assert code == 1 and len(errors.splitlines()) == 1 and found in errors


def test_a_first_run_needs_to_know_where() -> None:
    code, errors = run("first_run")
    assert code == 1 and "found 0 arguments, required one, a folder of runs" in errors


class Probed(http.server.BaseHTTPRequestHandler):
    """Answers as a server does whose readiness is in the path that it was given."""

    status = 200

    def do_GET(self) -> None:
        known = self.path == "/ready" and self.headers["Host"] == "localhost"
        self.send_response(self.status if known else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_ready_is_what_the_server_says(status: int, code: int) -> None:
    handler = type("Handler", (Probed,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert run("ready", str(server.server_address[1])) == (code, "")
        server.shutdown()


def test_a_server_that_is_not_there_is_not_ready_and_a_wrong_port_is_said() -> None:
    code, errors = run("ready", str(free_port()))
    assert code == 1 and errors == ""
    code, errors = run("ready", "http")
    assert code == 2 and re.fullmatch("scripts/ready: found http, required .*8787\n", errors)
