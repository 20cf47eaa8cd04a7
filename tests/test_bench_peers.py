"""transformers' continuous batching behind our server draws what our engine draws."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax import cli, experiment
from nanogpt_jax.bench import __main__ as bench
from nanogpt_jax.bench.peers.transformers_engine import TransformersEngine
from nanogpt_jax.generate import Generator
from nanogpt_jax.sampling import Sampling
from nanogpt_jax.serve.engine import NotServing, QueueFull
from nanogpt_jax.slots import Drawn, Request
from nanogpt_jax.train import train
from tests.runs import small_plan

pytestmark = [pytest.mark.parity, pytest.mark.slow]

GPT = {
    "model.n_layer": 2,
    "model.n_head": 2,
    "model.d_model": 16,
    "model.max_seq_len": 48,
    "train.steps": 20,
    "checkpoint.every_steps": 20,
}
LONG = 40


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that transformers has a class for; its context has 48 tokens."""
    folder = tmp_path_factory.mktemp("bench")
    train(small_plan(folder, GPT, "gpt"), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def run(workdir: Path) -> experiment.Loaded:
    return experiment.load(workdir)


@asynccontextmanager
async def started(run: experiment.Loaded, **values: int) -> AsyncIterator[TransformersEngine]:
    """An engine, ready; its slots are two."""
    engine = TransformersEngine(run, **{"slots": 2, "queue_length": 4} | values)
    assert engine.state == "loading"
    engine.start()
    try:
        while engine.state == "loading":
            await asyncio.sleep(0.01)
        assert engine.state == "ready"
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


class Heard:
    """A listener that remembers, and has enough after `most` tokens."""

    def __init__(self, most: int = 1000):
        self.drawn: list[Drawn] = []
        self.ends: list[str] = []
        self.ended = asyncio.Event()
        self._most = most

    def draw(self, drawn: Drawn) -> bool:
        self.drawn.append(drawn)
        return len(self.drawn) < self._most

    def finish(self, reason: str) -> None:
        self.ends.append(reason)
        self.ended.set()

    @property
    def tokens(self) -> list[int]:
        return [each.token for each in self.drawn]


def greedy(prompt: list[int], max_tokens: int, **others: Any) -> Request:
    sampling = Sampling(temperature=0)
    values = {"sampling": sampling, "overflow": "stop"} | others
    return Request(prompt=prompt, max_tokens=max_tokens, **values)


def ours(run: experiment.Loaded, request: Request) -> list[Drawn]:
    """What our own engine draws."""
    generator = Generator(run.model, run.shape.max_seq_len)
    stream = generator.stream(
        run.params,
        request.prompt,
        request.sampling,
        max_tokens=request.max_tokens,
        stop=request.stop,
    )
    return list(stream)


@pytest.fixture(scope="module")
def prompts(run: experiment.Loaded) -> list[list[int]]:
    texts = ("3 times 4 is", "17", "2 times 2 is 4.\n5 times", "is", "1")
    return [list(map(int, run.tokenizer.encode(text))) for text in texts]


def test_requests_side_by_side_draw_the_tokens_of_our_engine(
    run: experiment.Loaded, prompts: list[list[int]]
):
    requests = [greedy(prompt, 20) for prompt in prompts]

    async def talk() -> list[Heard]:
        async with started(run, queue_length=8) as engine:
            heard = [Heard() for _ in requests]
            for request, each in zip(requests, heard, strict=True):
                engine.submit(request, each, client="a")
            stats = engine.stats()
            assert (stats.active, stats.queued, stats.free_slots) == (2, 3, 0)
            for each in heard:
                await each.ended.wait()
            stats = engine.stats()
            assert (stats.active, stats.free_slots, stats.finished) == (0, 2, 5)
            assert stats.tokens == 20 * 5
            return heard

    for request, heard in zip(requests, asyncio.run(talk()), strict=True):
        expected = ours(run, request)
        assert heard.tokens == [each.token for each in expected]
        assert heard.ends == ["length"]
        logprobs = [each.logprob for each in expected]
        assert [each.logprob for each in heard.drawn] == pytest.approx(logprobs, abs=1e-4)


def test_a_request_ends_before_a_stop_when_its_listener_has_enough_and_at_the_context_s_end(
    run: experiment.Loaded, prompts: list[list[int]]
):
    tokens = [each.token for each in ours(run, greedy(prompts[0], 20))]
    stop = tokens[5]
    before = tokens.index(stop)

    async def talk() -> tuple[Heard, Heard, Heard]:
        async with started(run) as engine:
            found = (Heard(), Heard(3), Heard())
            engine.submit(greedy(prompts[0], 20, stop=frozenset({stop})), found[0], client="a")
            engine.submit(greedy(prompts[0], 20), found[1], client="a")
            engine.submit(greedy(prompts[0], 500), found[2], client="a")
            for each in found:
                await each.ended.wait()
            await asyncio.sleep(0.1)  # time for a token too many
            return found

    stopped, enough, full = asyncio.run(talk())
    assert (stopped.tokens, stopped.ends) == (tokens[:before], ["stop"])
    assert (enough.tokens, enough.ends) == (tokens[:3], ["stop"])
    assert full.ends == ["length"]
    assert len(full.tokens) == run.shape.max_seq_len - len(prompts[0]) + 1


def test_more_than_the_queue_holds_is_refused_and_a_client_has_half_of_it(
    run: experiment.Loaded, prompts: list[list[int]]
):
    async def talk() -> None:
        async with started(run) as engine:
            request = greedy(prompts[1], LONG)
            heard = [Heard() for _ in range(6)]
            tickets = [engine.submit(request, each, client="a") for each in heard[:4]]
            with pytest.raises(QueueFull) as refused:
                engine.submit(request, Heard(), client="a")
            assert refused.value.retry_after_seconds >= 1
            tickets += [engine.submit(request, each, client="b") for each in heard[4:]]
            with pytest.raises(QueueFull):
                engine.submit(request, Heard(), client="b")
            for ticket in tickets:
                engine.cancel(ticket)
                engine.cancel(ticket)
            assert [each.ends for each in heard] == [["cancelled"]] * 6
            assert engine.stats().cancelled == 6
            last = Heard()
            engine.submit(greedy(prompts[0], 3), last, client="a")
            await last.ended.wait()
            assert last.ends == ["length"]

    asyncio.run(talk())


def test_a_draining_engine_takes_nothing_and_lets_go_of_who_is_late(
    run: experiment.Loaded, prompts: list[list[int]]
):
    async def talk() -> None:
        async with started(run) as engine:
            quick, late = Heard(), Heard()
            engine.submit(greedy(prompts[0], 2), quick, client="a")
            assert await asyncio.to_thread(engine.drain, 30.0)
            assert quick.ends == ["length"] and engine.state == "draining"
            with pytest.raises(NotServing):
                engine.submit(greedy(prompts[0], 2), late, client="a")
        async with started(run) as engine:
            engine.submit(greedy(prompts[1], LONG), late, client="a")
            assert not await asyncio.to_thread(engine.drain, 0.0)
            assert late.ends == ["abort"]

    asyncio.run(talk())


def test_what_is_not_measured_is_refused(run: experiment.Loaded):
    plain: dict[str, Any] = {"prompt": [1], "max_tokens": 2}
    others: list[dict[str, Any]]
    others = [{"sampling": Sampling()}, {"alternatives": 1}, {"overflow": "slide"}, {"prompt": []}]

    async def talk() -> None:
        async with started(run) as engine:
            for changes in others:
                request = greedy(**plain | changes)
                with pytest.raises(ValueError, match=r"only greedy|does not fit"):
                    engine.submit(request, Heard(), client="a")

    asyncio.run(talk())


def test_both_servers_are_measured_under_every_load(
    workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "figures.json"
    words = ["serve", f"--workdir={workdir}", "--peer=transformers", "--seconds=0.7"]
    cli.bind(bench.COMMANDS, [*words, "--max_tokens=8", "--slots=2", f"--json={file}"])()
    found = json.loads(file.read_text())
    loads = ["unloaded", "capacity", "0.5 C", "1 C", "2 C", "8 C"]
    ways = ["ours", "transformers"]
    pairs = [(row["load"], row["way"]) for row in found["rows"]]
    assert pairs == [(load, way) for load in loads for way in ways]
    assert found["percentiles"] == [50, 95, 99]
    for row in found["rows"][:4]:
        assert row["statuses"].keys() == {"200"} and row["tokens_per_second"] > 0
    assert [row["offered_per_second"] for row in found["rows"][:4]] == [None] * 4
    asked = [row["offered_per_second"] for row in found["rows"][4::2]]
    assert asked == pytest.approx([asked[1] * factor for factor in (0.5, 1, 2, 8)])
    assert [each["way"] for each in found["fairness"]] == ways
    assert found["arguments"]["workdir"] == "run" and str(workdir) not in file.read_text()
    printed = capsys.readouterr().out
    assert printed.count("transformers") == 7 and "goodput/s" in printed
