"""Answers made of arrays: their size before the model runs, then JSON or bytes.

JSON: `{"fields": {name: nested lists}, ...}`; six significant digits, four at float16, and null for
what is not finite. Binary (application/octet-stream), all little-endian:

    4 bytes    uint32 N, the length of the header
    N bytes    JSON {"fields": {name: {"dtype", "shape", "offset"}}, ...}, padded with spaces
    the rest   the arrays in C order

`offset` counts from the end of the header, 4 + N. That and every offset are multiples of 8, so that
typed arrays of JavaScript and `np.frombuffer` read them in place. `dtype` is float32, float16 or
int32. What stands beside `fields` is the same in both.

Nothing here knows a model, a token or a route; whoever finds a bound too large refuses.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

Encoding = Literal["json", "binary"]
Dtype = Literal["float32", "float16", "int32"]

MEDIA_TYPES: dict[Encoding, str] = {
    "json": "application/json",
    "binary": "application/octet-stream",
}
ALIGNMENT_BYTES = 8
FORMATS: dict[Dtype, str] = {"float32": "%.6g", "float16": "%.4g", "int32": "%d"}
# The longest number of each format.
WIDTHS_BYTES: dict[Dtype, int] = {
    "float32": len("-1.17549e-38"),
    "float16": len("-6.104e-05"),
    "int32": len("-2147483648"),
}


@dataclasses.dataclass(frozen=True)
class Field:
    """The shape and type of one array, known before its values; no axes for a single number."""

    shape: tuple[int, ...]
    dtype: Dtype

    @property
    def size_bytes(self) -> int:
        """Bytes of the array itself."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def negotiate(accept: str) -> Encoding | None:
    """The encoding that an Accept header prefers, JSON if it does not care, None if neither fits.

    The most specific range that names a type decides its quality (RFC 9110, section 12.5.1).
    """
    qualities = dict(_ranges(accept or "*/*"))
    best, found = 0.0, None
    for encoding, media_type in MEDIA_TYPES.items():
        any_subtype = media_type.partition("/")[0] + "/*"
        named = (qualities[r] for r in (media_type, any_subtype, "*/*") if r in qualities)
        if (quality := next(named, 0.0)) > best:
            best, found = quality, encoding
    return found


def bound_bytes(
    fields: Mapping[str, Field], rest: Mapping[str, Any], encoding: Encoding, *, more: int = 0
) -> int:
    """The most that `encode` can give for `fields`; `more` bytes may be added to `rest` till then.

    Exact for binary without `more`, but for the padding.
    """
    header = len(_dump(_head(fields, rest, encoding))) + more
    if encoding == "json":
        return header + sum(map(_text_bytes, fields.values()))
    return (
        4 + header + ALIGNMENT_BYTES + sum(_aligned(field.size_bytes) for field in fields.values())
    )


def encode(
    fields: Mapping[str, Field],
    arrays: Mapping[str, Any],
    rest: Mapping[str, Any],
    encoding: Encoding,
) -> bytes:
    """The body of an answer: `arrays` of just the shapes of `fields`, and `rest` beside them."""
    values = {name: np.asarray(arrays[name]) for name in fields}
    for name, field in fields.items():
        if values[name].shape != field.shape:
            raise ValueError(f"{name} has shape {values[name].shape}, {field.shape} was announced")
    head = _head(fields, rest, encoding)
    return _json(fields, values, head) if encoding == "json" else _binary(fields, values, head)


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    """Media ranges with their qualities; one that cannot be read is 0."""
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            value = float(quality)
        except ValueError:
            value = 0.0
        yield name, value if 0 <= value <= 1 else 0.0


def _head(
    fields: Mapping[str, Field], rest: Mapping[str, Any], encoding: Encoding
) -> dict[str, Any]:
    """All but the numbers: in JSON an empty text stands for those of a field."""
    if encoding == "json":
        return {"fields": dict.fromkeys(fields, ""), **rest}
    entries, offset = {}, 0
    for name, field in fields.items():
        entries[name] = {"dtype": field.dtype, "shape": field.shape, "offset": offset}
        offset += _aligned(field.size_bytes)
    return {"fields": entries, **rest}


def _dump(value: Any) -> bytes:
    # Strict on purpose: JSON has no NaN, and what may be one is an array.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _text_bytes(field: Field) -> int:
    """The most that the numbers, commas and brackets of a field take."""
    lists = sum(math.prod(field.shape[:axis]) for axis in range(len(field.shape)))
    return math.prod(field.shape) * (WIDTHS_BYTES[field.dtype] + 1) + 3 * lists


def _json(fields: Mapping[str, Field], values: Mapping[str, np.ndarray], head: Any) -> bytes:
    texts = (f"{json.dumps(name)}:{_write(values[name], field)}" for name, field in fields.items())
    rest = _dump({name: value for name, value in head.items() if name != "fields"})
    tail = b"," + rest[1:] if len(rest) > 2 else b"}"
    return b'{"fields":{' + ",".join(texts).encode() + b"}" + tail


def _write(value: np.ndarray, field: Field) -> str:
    """Nested lists; a row at a time, so that other threads get their turn in between."""
    form = FORMATS[field.dtype]
    if value.ndim == 0:
        return form % value if np.isfinite(value) else "null"
    if value.ndim > 1:
        return f"[{','.join(_write(row, field) for row in value)}]"
    if np.isfinite(value).all():
        return f"[{','.join([form] * len(value)) % tuple(value.tolist())}]"
    return f"[{','.join(form % one if math.isfinite(one) else 'null' for one in value.tolist())}]"


def _binary(fields: Mapping[str, Field], values: Mapping[str, np.ndarray], head: Any) -> bytes:
    header = _dump(head)
    header = header.ljust(_aligned(4 + len(header)) - 4)
    pieces = [len(header).to_bytes(4, "little"), header]
    for name, field in fields.items():
        with np.errstate(over="ignore"):  # beyond float16 is inf, as it is for every reader
            array = values[name].astype(np.dtype(field.dtype).newbyteorder("<"))
        pieces.append(array.tobytes().ljust(_aligned(field.size_bytes), b"\0"))
    return b"".join(pieces)
