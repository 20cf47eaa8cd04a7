"""Who may ask."""

from __future__ import annotations

import pytest

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.serve.asgi import Refusal
from nanogpt_jax.serve.policy import MOST_HEADERS, Policy, check_size, for_host, name_client


def answers_for(policy: Policy, *hosts: str, server: str = "127.0.0.1") -> bool:
    headers = [(b"host", host.encode()) for host in hosts]
    try:
        policy.check_host({"headers": headers, "server": (server, 8787)})
    except Refusal as refusal:
        assert refusal.status == 421
        return False
    return True


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8787", "127.0.0.1:1", "[::1]:8787", "[::1]"]
)
def test_loopback_names_are_hosts(host: str):
    assert answers_for(Policy(), host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil", "localhost:x", "10.0.0.1"],
)
def test_foreign_names_are_not(host: str):
    assert not answers_for(Policy(), host)


def test_a_request_has_one_host():
    assert not answers_for(Policy())
    assert not answers_for(Policy(), "localhost", "localhost")


def test_allowed_hosts_and_the_address_that_was_reached_are_hosts():
    policy = for_host("0.0.0.0", keys="k", allowed_hosts=["Model.Example"])
    assert answers_for(policy, "model.example:8787")
    assert answers_for(policy, "10.0.0.1:8787", server="10.0.0.1")
    assert not answers_for(policy, "10.0.0.2:8787", server="10.0.0.1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "model.example"])
def test_a_server_for_the_network_needs_keys(host: str):
    with pytest.raises(ConfigError, match="needs API keys: set NANOGPT_JAX_API_KEYS"):
        for_host(host, keys=" , ")
    assert len(for_host(host, keys="one, two").key_digests) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_a_server_for_this_machine_does_not(host: str):
    assert for_host(host).key_digests == frozenset()


def test_a_policy_shows_no_key():
    assert "opensesame" not in repr(for_host("0.0.0.0", keys="opensesame"))


@pytest.mark.parametrize("origin", ["*", "null", "example.org", "https://*.example", "https://a/b"])
def test_an_origin_is_exact(origin: str):
    with pytest.raises(ConfigError, match="is not an exact origin"):
        for_host("localhost", cors_origins=[origin])


@pytest.mark.parametrize(
    ("forwarded", "trusted", "client"),
    [
        (["1.1.1.1"], 0, "9.9.9.9"),  # nobody is trusted
        (["1.1.1.1"], 1, "1.1.1.1"),
        (["6.6.6.6, 1.1.1.1"], 1, "1.1.1.1"),  # the first was written by the client
        (["6.6.6.6", "1.1.1.1"], 1, "1.1.1.1"),  # in two headers
        (["6.6.6.6, 1.1.1.1, 2.2.2.2"], 2, "1.1.1.1"),
        (["1.1.1.1"], 2, "9.9.9.9"),  # past the proxies
        (["nonsense"], 1, "9.9.9.9"),
        ([], 1, "9.9.9.9"),
    ],
)
def test_a_client_is_named_by_those_who_are_trusted(
    forwarded: list[str], trusted: int, client: str
):
    headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    assert name_client("9.9.9.9", headers, trusted) == client


def test_a_network_of_ipv6_is_one_client_and_a_mapped_address_is_one_of_ipv4():
    same = {name_client(peer, [], 0) for peer in ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2")}
    assert same == {"2001:db8:0:1::/64"}
    assert name_client("::ffff:9.9.9.9", [], 0) == "9.9.9.9"
    assert name_client(None, [], 0) == "unknown"


def test_headers_are_bounded_in_number_and_size():
    check_size([(b"x", b"y")] * MOST_HEADERS)
    for headers in ([(b"x", b"y")] * (MOST_HEADERS + 1), [(b"x", b"y" * 40000)]):
        with pytest.raises(Refusal, match="headers"):
            check_size(headers)


def test_a_request_of_the_reference_api_has_a_cap_of_its_own():
    caps = for_host("localhost", max_prompt_bytes=100).body_bytes_of
    assert caps == {"/api/generate": 100 + 4096, "/api/train": 4096}
