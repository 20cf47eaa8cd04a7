"""Code of a repository: which files are taken, in which order, and what is said of the rest."""

from pathlib import Path

import pytest

from nanogpt_jax.errors import ConfigError
from tests.opened import open_corpus, refusal


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small repository with everything in it that must be left out."""
    contents = {
        "b.py": b"b = 1\n",
        "a/main.rs": b"fn main() {}",
        "a/deep/down/x.md": "é\r\n".encode(),
        ".github/workflow.yml": b"on: push\n",
        "build/made.py": b"skipped = True\n",
        "a/node_modules/dependency.js": b"skipped()\n",
        ".git/config.toml": b"skipped\n",
        "notes.txt": b"of another kind\n",
        "Makefile": b"without an extension\n",
        "video.ts": b"\x00\x01binary",
        "latin.py": b"# \xe9\n",
    }
    root = tmp_path / "project"
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "a" / "linked.py").symlink_to(root / "b.py")
    (root / "a" / "loop").symlink_to(root)
    return root


EXPECTED = [
    "=== .github/workflow.yml ===\non: push\n",
    "=== a/deep/down/x.md ===\né\r\n",
    "=== a/main.rs ===\nfn main() {}\n",
    "=== b.py ===\nb = 1\n",
]


def test_every_file_of_code_is_a_document_under_its_name(repository: Path):
    corpus = open_corpus(f"source:{repository}", documents=True)
    train, val = corpus.read(0.25)
    assert not corpus.running
    assert (list(train.texts), list(val.texts)) == (EXPECTED[:3], EXPECTED[3:])
    assert list(train.texts) == EXPECTED[:3]  # a second time


def test_running_text_is_the_documents_one_after_the_other(repository: Path):
    corpus = open_corpus(f"source:{repository}")
    train, val = corpus.read(0.5)
    first, second = "".join(train.texts), "".join(val.texts)
    assert corpus.running and first + second == "".join(EXPECTED)
    assert abs(len(first) - len(second)) <= 1


def test_binary_and_undecodable_files_are_counted_in_one_line(
    repository: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", logger="absl")
    open_corpus(f"source:{repository}")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "4 files, 2 more skipped" in line


def test_a_corpus_of_code_names_its_folder_and_knows_names_and_contents(
    repository: Path, tmp_path: Path
):
    corpora = [open_corpus(f"source:{repository}")]
    assert corpora[0].identity == "source:project"
    (repository / "b.py").rename(repository / "c.py")
    corpora.append(open_corpus(f"source:{repository}"))
    (repository / "c.py").write_text("c = 1\n")
    corpora.append(open_corpus(f"source:{repository}"))
    assert len({corpus.fingerprint for corpus in corpora}) == 3
    (repository / "notes.txt").unlink()
    repository.rename(tmp_path / "moved")
    assert open_corpus(f"source:{tmp_path / 'moved'}").fingerprint == corpora[2].fingerprint


def test_code_that_changes_under_an_open_corpus_is_refused(repository: Path):
    corpus = open_corpus(f"source:{repository}")
    (repository / "b.py").write_text("b = 1  # more\n")
    assert "changed" in refusal(lambda: corpus.read(0.5))


def test_what_is_no_folder_of_code_is_refused(repository: Path):
    assert "source:DIR" in refusal(lambda: open_corpus("source:"), ConfigError)
    assert "not a folder" in refusal(lambda: open_corpus(f"source:{repository / 'b.py'}"))
    (repository.parent / "empty").mkdir()
    assert "no file of code" in refusal(
        lambda: open_corpus(f"source:{repository.parent / 'empty'}")
    )
