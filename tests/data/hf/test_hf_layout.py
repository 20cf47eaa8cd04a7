"""Which files of a dataset are those of a split: by its card, by names, by the hub's conversion."""

from typing import Any

import pytest

from nanogpt_jax.data.sources.hf.layout import Shard, choose
from tests.data.hf.hub import COMMIT, Hub, problem, texts_of


def test_without_parquet_of_its_own_the_hubs_conversion_is_read(hub: Hub):
    place = hub.add("converted/default/train/0000.parquet", ["a"])
    hub.files["data.csv"] = b"text\na\n"
    hub.describe("main", COMMIT, of="data")
    hub.describe("refs%2Fconvert%2Fparquet", COMMIT, of="converted/")
    served = place.replace("converted/", "")
    hub.server.files[served] = hub.server.files[place]
    assert texts_of("o/d") == ["a"]
    hub.describe("v1", COMMIT, of="data")
    assert "no Parquet file" in problem(lambda: texts_of("o/d@v1"))


def test_a_split_that_is_not_there_is_answered_with_what_is(hub: Hub):
    hub.add("data/train.parquet", ["a"])
    hub.card = {"configs": [{"config_name": "small"}]}
    message = problem(lambda: texts_of("o/d?split=test"))
    assert "split=test" in message and "data/train.parquet" in message and "small" in message


LAYOUTS = [
    # config, split, files in it, files beside it
    (
        "default",
        "train",
        ["data/train-00000-of-00001-0a1b.parquet"],
        ["data/test-00000-of-00001.parquet"],
    ),
    ("default", "train", ["a.parquet", "b/c.parquet"], []),
    ("default", "validation", ["data/val.parquet", "dev/0.parquet"], ["train.parquet"]),
    (
        "default",
        "train_sft",
        ["data/train_sft-00000-of-00001.parquet"],
        ["data/train_gen-00000-of-00001.parquet"],
    ),
    ("en", "test", ["en/test/0000.parquet"], ["de/test/0000.parquet", "en/train/0000.parquet"]),
    ("en", "train", ["en/partial-train/0000.parquet"], ["en/test/0000.parquet"]),
    ("en", "sft", ["en/partial-sft/0000.parquet"], ["en/partial-dpo/0000.parquet"]),
    ("sample/10BT", "train", ["sample/10BT/000.parquet"], ["sample/100BT/000.parquet"]),
    ("absent", "train", [], ["train.parquet"]),
    ("default", "test", [], ["a.parquet"]),
]


@pytest.mark.parametrize(("config", "split", "inside", "beside"), LAYOUTS)
def test_files_are_found_by_their_names(
    config: str, split: str, inside: list[str], beside: list[str]
):
    files = [Shard(path, 1, "") for path in sorted([*inside, *beside])]
    assert [shard.path for shard in choose(files, (), config, split)] == sorted(inside)


@pytest.mark.parametrize(
    ("entry", "chosen"),
    [
        ({"data_files": "data/*.parquet"}, ["data/a1.parquet"]),
        ({"data_files": ["data/**/*.parquet"]}, ["data/a1.parquet", "data/deep/b.parquet"]),
        ({"data_files": [{"split": "train", "path": ["x", "data/?[0-9].*"]}]}, ["data/a1.parquet"]),
        ({"data_files": [{"split": "test", "path": "**"}]}, []),
        ({"data_files": "*.parquet", "data_dir": "data/deep"}, ["data/deep/b.parquet"]),
        ({"data_dir": "data"}, ["data/a1.parquet", "data/deep/b.parquet"]),
        ({"data_files": "data/[z-a]"}, []),
        ({"data_files": "data/[!b]1.parquet"}, ["data/a1.parquet"]),
    ],
)
def test_a_card_goes_before_names(entry: dict[str, Any], chosen: list[str]):
    paths = ["data/a1.parquet", "data/deep/b.parquet", "train.parquet"]
    configs = [{"config_name": "other", "data_files": "**"}, {"config_name": "c", **entry}]
    found = choose([Shard(path, 1, "") for path in paths], configs, "c", "train")
    assert [shard.path for shard in found] == chosen
