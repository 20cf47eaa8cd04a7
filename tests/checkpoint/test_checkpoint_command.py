"""`python -m nanogpt_jax.checkpoint` lists and digests, and says what is wrong in one line."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nanogpt_jax import cli, errors
from nanogpt_jax.checkpoint.__main__ import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]


def main(words):
    cli.bind(COMMANDS, words)()


@pytest.fixture
def run(open_run, save, tmp_path):
    """A run directory with a milestone at 1 and a full save at 2."""
    with open_run() as checkpoints:
        save(checkpoints, 1, kind="milestone", metrics={"val/loss": 1.23456})
        save(checkpoints, 2)
    return tmp_path


def test_ls_shows_a_table_of_the_run_and_of_its_checkpoints_folder(run, capsys):
    main(["ls", str(run)])
    title, first, second = capsys.readouterr().out.splitlines()
    assert title.split() == "step kind created tokens val loss items size".split()
    assert first.split()[:2] == ["1", "milestone"] and "1.2346" in first
    assert second.split()[3:] == ["20", "-", "params", "opt_state", "rest", "data", "0.0", "MB"]
    main(["ls", str(run / "checkpoints"), "--newest"])
    assert capsys.readouterr().out.splitlines()[1].split() == second.split()


def test_ls_gives_the_sidecars_as_json(run, capsys):
    main(["ls", str(run), "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in rows] == [1, 2]
    size = rows[0].pop("size_bytes")
    assert rows[0] == json.loads((run / "checkpoints/1/metadata.json").read_text())
    assert size > len(json.dumps(rows[0]))


def test_a_digest_is_that_of_the_values(run, state_of, capsys):
    main(["digest", str(run)])
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    digests = {name: value for value, name in lines}
    wte = np.asarray(state_of(2).params["wte"])
    expected = hashlib.sha256(b"float32(4, 3)" + wte.tobytes()).hexdigest()
    assert digests["params/wte"] == expected
    assert digests["data"] == hashlib.sha256(b'{"batch":2}').hexdigest()
    leaves = ["data", "opt_state/0/count", "opt_state/0/mu/blocks/scale", "opt_state/0/mu/wte"]
    leaves += ["opt_state/0/nu/blocks/scale", "opt_state/0/nu/wte", "params/blocks/scale"]
    assert list(digests) == [*leaves, "params/wte", "rest/key", "rest/step", "total"]
    main(["digest", str(run), "best"])
    assert [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "params/blocks/scale",
        "params/wte",
        "total",
    ]


def test_a_digest_changes_with_any_one_leaf(open_run, save, state_of, tmp_path, capsys):
    state = state_of(1)
    changed = [state, state._replace(step=state.step + 1), state._replace(key=state_of(2).key)]
    with open_run(keep=9) as checkpoints:
        for step, one in enumerate(changed):
            save(checkpoints, step, state=one)
    totals = set()
    for step in range(len(changed)):
        main(["digest", str(tmp_path), str(step)])
        totals.add(capsys.readouterr().out.splitlines()[-1])
    assert len(totals) == len(changed)


def test_verify_has_a_line_for_each_whole_checkpoint_and_names_what_is_not(run, capsys):
    main(["verify", str(run)])
    steps = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert steps == ["1", "2"]
    (run / "checkpoints/2/params/manifest.ocdbt").write_bytes(b"")
    main(["verify", str(run / "checkpoints"), "1"])
    assert len(capsys.readouterr().out.splitlines()) == 1
    for words in ([], ["2"]):
        with pytest.raises(errors.NoCheckpoint, match=r"2/params/manifest\.ocdbt is dam") as told:
            main(["verify", str(run), *words])
        assert errors.exit_code_of(told.value) == 4
        assert len(capsys.readouterr().out.splitlines()) == (not words)


def test_ls_shows_what_there_is_beside_a_damaged_sidecar_and_reads_no_array(run, capsys):
    (run / "checkpoints/1/metadata.json").write_text("{}")
    (run / "checkpoints/2/params/manifest.ocdbt").write_bytes(b"")
    main(["ls", str(run)])
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith("2 ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["rm", "."], 2),
        (["ls"], 2),
        (["digest", ".", "newest"], 2),
        (["ls", "."], 4),
        (["digest", "missing", "3"], 4),
        (["verify", "."], 4),
        (["verify", ".", "3"], 4),
        (["verify", ".", "last"], 2),
    ],
)
def test_wrong_usage_and_a_missing_checkpoint_have_their_codes(
    arguments, code, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.NanogptError) as told:
        main(arguments)
    assert errors.exit_code_of(told.value) == code


def test_as_a_process_it_prints_an_error_in_one_line(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "nanogpt_jax.checkpoint", "ls", str(tmp_path)],
        cwd=REPOSITORY,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (4, "")
    assert ended.stderr.startswith("error: ") and len(ended.stderr.splitlines()) == 1
