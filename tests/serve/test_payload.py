"""Arrays as JSON and as bytes, and their size beforehand."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest

from nanogpt_jax.serve.payload import Field, bound_bytes, encode, negotiate

FIELDS = {
    "odd": Field((3,), "int32"),
    "cube": Field((2, 3, 4), "float32"),
    "half": Field((5,), "float16"),
    "one": Field((), "float32"),
    "none": Field((2, 0), "float32"),
}
REST = {"step": 7, "texts": {"3": 'ü"\n'}}


def values_of(fields: dict[str, Field], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: np.asarray(rng.normal(size=field.shape) * 100).astype(field.dtype)
        for name, field in fields.items()
    }


def read(body: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A reader written from the module's docstring alone."""
    (length,) = struct.unpack_from("<I", body)
    header = json.loads(body[4 : 4 + length])
    arrays = {}
    for name, entry in header["fields"].items():
        dtype, shape = np.dtype(entry["dtype"]).newbyteorder("<"), entry["shape"]
        start = 4 + length + entry["offset"]
        assert start % 8 == 0
        arrays[name] = np.frombuffer(body, dtype, math.prod(shape), start).reshape(shape)
    return header, arrays


def test_binary_gives_back_every_number_and_what_stands_beside_them():
    values = values_of(FIELDS)
    header, found = read(encode(FIELDS, values, REST, "binary"))
    assert {name: header[name] for name in REST} == REST
    assert found.keys() == FIELDS.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)


def test_json_gives_back_the_numbers_to_six_digits_or_four():
    values = values_of(FIELDS)
    body = json.loads(encode(FIELDS, values, REST, "json"))
    assert {name: body[name] for name in REST} == REST
    np.testing.assert_array_equal(body["fields"]["odd"], values["odd"])
    np.testing.assert_allclose(body["fields"]["cube"], values["cube"], rtol=5e-6)
    np.testing.assert_allclose(body["fields"]["half"], values["half"], rtol=5e-4)
    assert body["fields"]["one"] == pytest.approx(float(values["one"]), rel=5e-6)
    assert body["fields"]["none"] == [[], []]


def test_what_is_not_finite_is_null_in_json_and_itself_in_binary():
    fields = {"row": Field((2, 2), "float32"), "one": Field((), "float32")}
    row = np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32)
    values = {"row": row, "one": np.float32(np.nan)}
    body = json.loads(encode(fields, values, {}, "json"), parse_constant=pytest.fail)
    assert body == {"fields": {"row": [[1.5, None], [None, None]], "one": None}}
    np.testing.assert_array_equal(read(encode(fields, values, {}, "binary"))[1]["row"], row)


@pytest.mark.parametrize("encoding", ["json", "binary"])
def test_no_answer_is_larger_than_its_bound(encoding: Any):
    rng = np.random.default_rng(1)
    for seed in range(50):
        shapes = [tuple(rng.integers(0, 5, rng.integers(0, 4)).tolist()) for _ in range(3)]
        kinds: Any = ("float32", "float16", "int32")
        fields = {kind: Field(shape, kind) for kind, shape in zip(kinds, shapes, strict=True)}
        body = encode(fields, values_of(fields, seed), REST, encoding)
        assert len(body) <= bound_bytes(fields, REST, encoding)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_the_longest_numbers_fit_their_width(dtype: Any):
    if dtype == "int32":
        extremes = [np.iinfo(dtype).min, -1, 0, np.iinfo(dtype).max]
    else:
        bits: Any = np.uint32 if dtype == "float32" else np.uint16
        drawn = np.random.default_rng(2).integers(0, np.iinfo(bits).max, 20000, bits)
        extremes = [*-np.abs(drawn.view(dtype)), np.finfo(dtype).min, -np.finfo(dtype).tiny]
    for number in extremes:
        fields = {"x": Field((), dtype)}
        body = encode(fields, {"x": np.asarray(number, dtype)}, {}, "json")
        assert len(body) <= bound_bytes(fields, {}, "json"), number


def test_the_bound_of_binary_is_tight_and_that_of_json_is_near():
    fields = {"p": Field((4, 8, 64, 64), "float32")}
    values = {"p": np.random.default_rng(0).random((4, 8, 64, 64), np.float32)}
    sizes = {e: len(encode(fields, values, {}, e)) for e in ("json", "binary")}
    assert bound_bytes(fields, {}, "binary") - sizes["binary"] <= 16
    assert bound_bytes(fields, {}, "json") < 1.6 * sizes["json"]


def test_the_bound_counts_what_is_added_later():
    later = {"texts": {"1": "abc"}}
    body = encode(FIELDS, values_of(FIELDS), later, "json")
    more = len(json.dumps(later))
    assert len(body) <= bound_bytes(FIELDS, {}, "json", more=more)
    assert bound_bytes(FIELDS, {}, "json", more=more) == bound_bytes(FIELDS, {}, "json") + more


def test_an_array_of_another_shape_than_announced_is_refused():
    with pytest.raises(ValueError, match=r"\(4,\), \(3,\) was announced"):
        encode({"x": Field((3,), "int32")}, {"x": np.zeros(4)}, {}, "json")


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/*", "json"),
        ("application/json", "json"),
        ("application/octet-stream", "binary"),
        ("APPLICATION/Octet-Stream", "binary"),
        ("application/octet-stream, */*;q=0.1", "binary"),
        ("application/json;q=0.5, application/octet-stream;q=0.6", "binary"),
        ("application/json, application/octet-stream", "json"),
        ("application/json;q=0, */*", "binary"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "json"),
        ("text/html", None),
        ("application/json;q=0", None),
        ("*/*;q=0", None),
        ("application/json;q=nan", None),
        ("application/json;q=2", None),
        (",;,;q=", None),
    ],
)
def test_the_accept_header_chooses(accept: str, encoding: str | None):
    assert negotiate(accept) == encoding
