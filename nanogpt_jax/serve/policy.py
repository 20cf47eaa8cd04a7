"""Who may ask: hosts, API keys, origins of pages, and the name by which a client is counted.

Decisions only; guard.py asks for them. How often a client may ask is the business of limits.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.serve.asgi import Headers, Refusal, Scope, values_of

KEYS_VARIABLE = "NANOGPT_JAX_API_KEYS"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PROMPTS = 16  # the prompts of a request, or one of control characters, each written \u0000
FIELDS_BYTES = 64 * 1024  # its other fields
REFERENCE_BYTES = 4096  # those of a request to the reference server, which have no other text
MOST_HEADERS = 100
MOST_HEADER_BYTES = 32 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """Who may ask, and how much at once.

    `hosts` are names in lower case; the address at which a request arrived is always one of them,
    because only names can be rebound. Keys are kept as digests, all of one length, so that the time
    a comparison takes tells nothing. `body_bytes_of` has the paths with a cap of their own.
    """

    hosts: frozenset[str] = LOOPBACK
    key_digests: frozenset[bytes] = frozenset()
    cors_origins: frozenset[str] = frozenset()
    trusted_proxies: int = 0
    max_body_bytes: int = 256 * 1024
    body_bytes_of: Mapping[str, int] = dataclasses.field(default_factory=dict)
    receive_seconds: float = 10.0

    def check_host(self, scope: Scope) -> None:
        """Refuses a request that was meant for another host."""
        arrived_at = (scope.get("server") or (None,))[0]
        hosts = values_of(scope["headers"], b"host")
        name = _name_of(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
        if name is None or not (name in self.hosts or name == arrived_at):
            raise Refusal(421, "unknown_host", "this server does not answer for this host name")

    def check_key(self, headers: Headers) -> None:
        """Refuses a request without one of the keys, if there are any."""
        given = values_of(headers, b"authorization")
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        found = digest(key.strip())
        # A list, so that every key is compared, whichever is the right one.
        matches = [hmac.compare_digest(found, known) for known in self.key_digests]
        if self.key_digests and not (scheme.lower() == b"bearer" and any(matches)):
            sentence = "this server needs an API key: send Authorization: Bearer KEY"
            raise Refusal(401, "invalid_api_key", sentence, headers={"www-authenticate": "Bearer"})

    def origin_of(self, headers: Headers) -> bytes | None:
        """The origin of the page that asks, if it is one that may read the answer."""
        origins = values_of(headers, b"origin")
        known = len(origins) == 1 and origins[0].decode("latin-1") in self.cors_origins
        return origins[0] if known else None


def digest(key: str | bytes) -> bytes:
    """What is kept of an API key."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def for_host(
    host: str,
    *,
    keys: str = "",
    allowed_hosts: Iterable[str] = (),
    cors_origins: Iterable[str] = (),
    trusted_proxies: int = 0,
    max_prompt_bytes: int = 8192,
    receive_seconds: float = 10.0,
) -> Policy:
    """The policy of a server bound to `host`; `keys` is the text of NANOGPT_JAX_API_KEYS.

    Raises ConfigError where a server without keys would be open to the network.
    """
    digests = frozenset(digest(key.strip()) for key in keys.split(",") if key.strip())
    problems = [
        f"--cors_origin={origin!r} is not an exact origin, such as https://example.org"
        for origin in cors_origins
        if not origin.startswith(("http://", "https://")) or origin.count("/") != 2 or "*" in origin
    ]
    if not digests and not _is_loopback(host):
        problems.append(
            f"--host={host} is open to the network, which needs API keys: set {KEYS_VARIABLE}=KEY, "
            "or use --host=127.0.0.1"
        )
    if problems:
        raise ConfigError(problems)
    return Policy(
        hosts=LOOPBACK | {host.lower()} | {name.lower() for name in allowed_hosts},
        key_digests=digests,
        cors_origins=frozenset(cors_origins),
        trusted_proxies=trusted_proxies,
        max_body_bytes=PROMPTS * max_prompt_bytes + FIELDS_BYTES,
        body_bytes_of={
            "/api/generate": max_prompt_bytes + REFERENCE_BYTES,
            "/api/train": REFERENCE_BYTES,
        },
        receive_seconds=receive_seconds,
    )


def check_size(headers: Headers) -> None:
    """Refuses more headers than any client needs."""
    size_bytes = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MOST_HEADERS or size_bytes > MOST_HEADER_BYTES:
        sentence = f"at most {MOST_HEADERS} headers of together {MOST_HEADER_BYTES} bytes"
        raise Refusal(431, "headers_too_large", sentence)


def name_client(peer: str | None, headers: Headers, trusted_proxies: int) -> str:
    """The name by which a client is counted: its address, of IPv6 the network of 64 bits.

    X-Forwarded-For counts only behind proxies, and from the right: of its addresses the last
    `trusted_proxies` were written by them, the others by anyone. Where there are fewer, or what
    stands there is no address, the peer of the socket is the client.
    """
    forwarded = b",".join(values_of(headers, b"x-forwarded-for")).decode("latin-1").split(",")
    address = _address(peer or "")
    if 0 < trusted_proxies <= len(forwarded):
        address = _address(forwarded[-trusted_proxies].strip()) or address
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address or peer or "unknown")


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _name_of(host: str) -> str | None:
    """The name or address in a Host header, without port and brackets."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host.lower(), ""
    if port and not port.isdigit():
        return None
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
