"""The chain of lines: whatever is done to one of them is found, and said."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.metrics import chain
from nanogpt_jax.metrics.history import Update, history_of

RECORDS = [
    {"step": 1, "train/loss": 2.5},
    {"step": 2, "train/loss": 2.25, "text": 'a "quoted" ü,"sha256":"no"}'},
    {"event": "save", "step": 2, "params_sha256": "ab"},
    {"event": "resume", "step": 2},
    {"step": 3, "train/loss": "NaN"},
    {"step": 4, "train/loss": 1e-300},
]


def sealed(records: list[dict[str, object]]) -> list[bytes]:
    lines, before = [], chain.START
    for record in records:
        line, before = chain.seal(record, before)
        lines.append(line)
    return lines


LINES = sealed(RECORDS)


def test_a_chain_holds_and_gives_back_what_was_sealed() -> None:
    read = chain.verify(LINES)
    assert [{**record, "line": n} for n, record in enumerate(RECORDS, 1)] == [
        {name: value for name, value in record.items() if name != "sha256"} for record in read
    ]
    assert chain.link_of(LINES[-1]) == (6, read[-1]["sha256"])


def test_a_hash_is_of_the_one_before_and_of_the_line_without_its_own() -> None:
    before = ""
    for line in LINES:
        record = json.loads(line)
        own = record.pop("sha256")
        body = json.dumps(record, separators=(",", ":"))
        assert hashlib.sha256((before + body).encode()).hexdigest() == own
        before = own


def test_the_same_record_has_another_hash_elsewhere() -> None:
    one, two = sealed([{"step": 1}, {"step": 1}])
    assert chain.link_of(one) != chain.link_of(two)


@pytest.mark.parametrize("index", range(len(LINES)))
@pytest.mark.parametrize("bit", [1, 128])
def test_every_single_flipped_bit_is_found(index: int, bit: int) -> None:
    line = LINES[index]
    flipped = [line[:at] + bytes([line[at] ^ bit]) + line[at + 1 :] for at in range(len(line) - 1)]
    flipped = [one for one in flipped if b"\n" not in one[:-1]]
    assert len(flipped) > len(line) - 5
    for one in flipped:
        with pytest.raises(chain.Broken, match=rf"^line {index + 1} is "):
            chain.verify([*LINES[:index], one, *LINES[index + 1 :]])


@given(data=st.data())
def test_any_other_bytes_in_any_line_are_found_there(data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(LINES) - 1))
    line = bytearray(LINES[index])
    place = data.draw(st.integers(0, len(line) - 2))  # its end stays
    old = bytes(line[place : place + 1])
    new = data.draw(st.binary(max_size=3).filter(lambda new: new != old and b"\n" not in new))
    line[place : place + 1] = new
    with pytest.raises(chain.Broken, match=rf"^line {index + 1} is "):
        chain.verify([*LINES[:index], bytes(line), *LINES[index + 1 :]])


@given(index=st.integers(0, len(LINES) - 1), digit=st.sampled_from("0123456789"))
def test_a_changed_number_is_a_changed_line(index: int, digit: str) -> None:
    line = LINES[index].replace(
        f'"step":{RECORDS[index]["step"]}'.encode(), b'"step":9' + digit.encode()
    )
    assert line != LINES[index]
    with pytest.raises(chain.Broken, match=rf"^line {index + 1} is changed"):
        chain.verify([*LINES[:index], line, *LINES[index + 1 :]])


@given(index=st.integers(0, len(LINES) - 2))
def test_a_removed_line_is_missed_where_it_was(index: int) -> None:
    with pytest.raises(chain.Broken, match=rf"^line {index + 1} is removed.* line {index + 2} "):
        chain.verify([*LINES[:index], *LINES[index + 1 :]])


@given(places=st.permutations(range(len(LINES))).filter(lambda places: places != sorted(places)))
def test_lines_in_another_order_are_reordered(places: list[int]) -> None:
    first = next(n for n, place in enumerate(places, 1) if place != n - 1)
    with pytest.raises(chain.Broken, match=rf"^line {first} is reordered"):
        chain.verify([LINES[place] for place in places])


@given(index=st.integers(0, len(LINES)), source=st.integers(0, len(LINES) - 1))
def test_a_copy_of_a_line_is_inserted(index: int, source: int) -> None:
    with pytest.raises(chain.Broken, match=r"^line \d is inserted") as told:
        chain.verify([*LINES[:index], LINES[source], *LINES[index:]])
    # Beside its original nobody can tell which of the two is the copy.
    assert str(told.value).startswith(f"line {index + 1 + (index == source)} ")


@given(index=st.integers(0, len(LINES) - 1))
def test_a_forged_line_is_inserted(index: int) -> None:
    forged, _ = chain.seal({"step": 1}, chain.Link(index, "0" * 64))
    with pytest.raises(chain.Broken, match=rf"^line {index + 1} is inserted"):
        chain.verify([*LINES[:index], forged, *LINES[index:]])


def test_a_line_that_is_none_of_a_log_is_found() -> None:
    for strange in (b"\n", b"{}\n", b"\xff\n", LINES[1][:-1] + b" \n"):
        with pytest.raises(chain.Broken, match=r"^line 2 is inserted"):
            chain.verify([LINES[0], strange, *LINES[1:]])
        with pytest.raises(chain.Broken, match=r"^line 2 is changed"):
            chain.verify([LINES[0], strange, *LINES[2:]])


def test_one_batch_is_its_own_hash_and_of_several_the_order_counts() -> None:
    assert chain.fold("", "aa") == "aa"
    both = chain.fold(chain.fold("", "aa"), "bb")
    assert both == hashlib.sha256(b"aabb").hexdigest()
    assert both != chain.fold(chain.fold("", "bb"), "aa")


@given(nats=st.floats(0, 1e6, width=32), tokens=st.integers(0, 10**6))
def test_the_bits_of_a_loss_are_read_back_exactly(nats: float, tokens: int) -> None:
    assert float.fromhex(chain.bits_of(nats, float(tokens))) == nats / (tokens or 1)


def line(step: int, loss: str) -> dict[str, object]:
    return {"step": step, "loss_hex": loss, "batch_sha256": f"batch {loss}"}


def test_a_history_is_what_the_last_line_of_every_step_says() -> None:
    records = [
        *(line(10, "a"), line(20, "b"), {"step": 20, "val/loss": 1.0}),
        {"event": "save", "step": 25, "params_sha256": "p"},
        *(line(30, "c"), {"event": "save", "step": 35, "params_sha256": "q"}),
        *({"event": "resume", "step": 25}, line(30, "d"), line(33, "e")),
    ]
    history = history_of(records)
    assert history.updates == {
        10: Update(1, "a", "batch a"),
        20: Update(11, "b", "batch b"),
        30: Update(26, "d", "batch d"),
        33: Update(31, "e", "batch e"),
    }
    assert history.params_sha256 == {25: "p"}
