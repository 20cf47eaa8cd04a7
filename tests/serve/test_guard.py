"""What stands before the routes refuses, answers and logs as it should."""

from __future__ import annotations

import logging

import pytest

from nanogpt_jax.serve.asgi import Message, Receive, Scope, Send, answer
from nanogpt_jax.serve.guard import PIECE_BYTES, Guard
from nanogpt_jax.serve.policy import Policy, digest
from tests.serve.asking import HOST, JSON, ask, post

SECRET = "a prompt that nobody else may read"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body it was sent."""
    message = await receive()
    await answer(send, 200, message["body"], [])


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise KeyError(SECRET)


async def fail_late(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise KeyError(SECRET)


def test_a_request_that_is_in_order_reaches_the_application_whole():
    answered = ask(
        Guard(echo), "/v1/x", method="POST", headers=[HOST, JSON], pieces=[b'{"a"', b": 1}"]
    )
    assert (answered.status, answered.body) == (200, b'{"a": 1}')


def test_every_answer_has_the_security_headers_refusals_and_failures_too():
    for answered, status in (
        (ask(Guard(echo)), 200),
        (ask(Guard(echo), headers=[("host", "evil.example")]), 421),
        (ask(Guard(fail)), 500),
    ):
        assert answered.status == status
        assert answered.headers["x-content-type-options"] == "nosniff"
        assert answered.headers["x-frame-options"] == "DENY"
        assert answered.headers["referrer-policy"] == "no-referrer"
        assert "script" not in answered.headers["content-security-policy"]
        assert "default-src 'self'" in answered.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/docs", "/assets/x.js", "/nothing"])
def test_no_page_may_load_anything_from_elsewhere_or_run_what_stands_in_it(path: str):
    policy = ask(Guard(echo), path).headers["content-security-policy"]
    allowed = dict(each.split(" ", 1) for each in policy.split("; "))
    assert allowed["default-src"] == "'self'"
    assert not {"script-src", "style-src", "connect-src", "font-src"} & allowed.keys()
    assert allowed["img-src"] == "'self' data: blob:"
    assert "unsafe" not in policy and "//" not in policy


def test_answers_of_the_api_are_not_stored_and_a_page_may_be():
    assert ask(Guard(echo), "/api/info").headers["cache-control"] == "no-store"
    assert ask(Guard(echo), "/v1/models").headers["cache-control"] == "no-store"
    for page in ("/", "/assets/x.js", "/docs"):
        assert "cache-control" not in ask(Guard(echo), page).headers


def test_a_header_of_the_application_wins():
    async def cached(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, b"", [(b"Cache-Control", b"max-age=1")])

    headers = ask(Guard(cached), "/api/info").headers
    assert headers["Cache-Control"] == "max-age=1" and "cache-control" not in headers


KEYED = ["//", "/assets", "/health/", "/metrics", "/v1/models", "/docs", "/ready/..", "/page.css/"]


@pytest.mark.parametrize("path", KEYED)
def test_with_keys_every_path_but_the_probes_and_the_inspectors_files_needs_one(path: str):
    guard = Guard(echo, Policy(key_digests=frozenset({digest("right"), digest("other")})))
    for open_path in ("/health", "/ready", "/", "/page.css", "/assets/index-1.js"):
        assert ask(guard, open_path).status == 200

    def status(*authorization: str) -> int | None:
        return ask(
            guard, path, headers=[HOST, *(("authorization", each) for each in authorization)]
        ).status

    assert status() == status("Bearer wrong") == status("right") == status("Basic right") == 401
    assert status("Bearer wrong", "Bearer right") == status("Bearer ") == 401
    assert status("Bearer right") == status("bearer other") == 200
    assert ask(guard, path, method="OPTIONS").status == 401
    assert ask(guard, path, method="HEAD").status == 401


def test_a_refusal_has_the_form_of_the_part_that_was_asked():
    guard = Guard(echo, Policy(key_digests=frozenset({digest("right")})))
    refused = ask(guard, "/v1/models")
    assert refused.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    assert refused.headers["www-authenticate"] == "Bearer"
    assert ask(guard, "/api/info").json()["error"] == "invalid_api_key"


def test_pages_of_known_origins_alone_may_read_answers_and_never_with_credentials():
    guard = Guard(echo, Policy(cors_origins=frozenset({"https://good.example"})))

    def headers(origin: str, **more: str) -> dict[str, str]:
        given = [HOST, ("origin", origin), *((k.replace("_", "-"), v) for k, v in more.items())]
        method = "OPTIONS" if more else "GET"
        return ask(guard, "/api/info", method=method, headers=given).headers

    good = headers("https://good.example")
    assert good["access-control-allow-origin"] == "https://good.example"
    assert good["vary"] == "origin"
    preflight = headers("https://good.example", access_control_request_method="POST")
    assert "authorization" in preflight["access-control-allow-headers"]
    for found in (
        headers("https://evil.example"),
        headers("null"),
        headers("https://good.example.evil.example"),
        headers("https://evil.example", access_control_request_method="POST"),
        ask(Guard(echo), headers=[HOST, ("origin", "https://good.example")]).headers,
    ):
        assert not any(name.startswith("access-control") for name in found)
    assert not any("credentials" in name for name in good | preflight)


def test_a_preflight_needs_no_key_and_tells_no_routes():
    policy = Policy(
        cors_origins=frozenset({"https://good.example"}), key_digests=frozenset({digest("k")})
    )
    asked = [HOST, ("origin", "https://good.example"), ("access-control-request-method", "POST")]
    known = ask(Guard(echo, policy), "/api/generate", method="OPTIONS", headers=asked)
    unknown = ask(Guard(echo, policy), "/nothing", method="OPTIONS", headers=asked)
    assert known.status == unknown.status == 204
    assert ask(Guard(echo, policy), "/api/generate", headers=asked).status == 401


def test_a_failure_tells_the_client_a_number_that_the_log_has_too(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="absl"):
        failed = ask(Guard(fail), "/api/info")
        in_openais_form = ask(Guard(fail), "/v1/models").json()["error"]
    assert failed.status == 500
    assert failed.json()["error"] == "internal"
    assert in_openais_form["type"] == "server_error"
    assert f"error {failed.json()['id']}" in caplog.messages
    assert SECRET.encode() not in failed.body and b"Traceback" not in failed.body
    assert SECRET not in "".join(caplog.messages)


def test_a_failure_after_the_answer_has_begun_leaves_it_incomplete():
    failed = ask(Guard(fail_late))
    assert (failed.status, failed.bodies) == (200, [])


def test_the_log_has_one_line_for_a_request_and_nothing_of_its_body(
    caplog: pytest.LogCaptureFixture,
):
    with caplog.at_level(logging.INFO, logger="absl"):
        post(Guard(echo), "/api/x\r\n127.0.0.1 GET /forged\x1b[2J\u2028", f'"{SECRET}"'.encode())
        ask(Guard(echo), headers=[HOST, ("x-y", "1")] * 60)
    first, second = caplog.messages
    assert first.startswith(r"127.0.0.1 POST /api/x\r\n127.0.0.1 GET /forged\x1b[2J\u2028 200 36 ")
    assert second.startswith("127.0.0.1 GET / 431 ")


def test_probes_are_worth_a_line_only_when_they_are_refused(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="absl"):
        for path in ("/health", "/ready", "/metrics"):
            ask(Guard(echo), path)
            ask(Guard(echo), path, headers=[("host", "evil.example")])
    assert [line.split()[2:4] for line in caplog.messages] == [
        ["/health", "421"],
        ["/ready", "421"],
        ["/metrics", "421"],
    ]


def test_a_client_that_leaves_before_it_has_asked_gets_no_answer(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="absl"):
        answered = ask(Guard(echo), method="POST", headers=[HOST, JSON], pieces=[])
    assert answered.status is None
    assert " left " in caplog.messages[0]


def test_large_answers_go_in_pieces_that_make_the_same_body():
    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, bytes(range(256)) * 1024, [])

    answered = ask(Guard(large))
    assert answered.body == bytes(range(256)) * 1024
    assert [len(piece) for piece in answered.bodies] == [PIECE_BYTES] * 4


def test_pieces_of_a_stream_end_where_the_stream_ends():
    ends: list[bool] = []

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            ends.append(message.get("more_body", False))

        # What leaves the guard, seen by the server below it.
        async def two(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 70000, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await Guard(two)(scope, receive, note)

    ask(stream)
    assert ends == [False, True, True, False]  # the start has none


def test_the_client_is_known_to_the_routes():
    assert ask(Guard(echo), peer="10.0.0.7").state["client"] == "10.0.0.7"


def test_routes_and_their_answers_are_observed_by_name_and_not_by_address():
    class Route:
        path = "/v1/models/{model}"

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route()
        await answer(send, 404, b"", [])

    seen: list[tuple[str, str, int]] = []

    def observe(method: str, route: str, status: int) -> None:
        seen.append((method, route, status))

    ask(Guard(routed, observe=observe), "/v1/models/mine")
    ask(Guard(echo, observe=observe), "/unheard/of")
    assert seen == [("GET", "/v1/models/{model}", 404), ("GET", "other", 200)]
