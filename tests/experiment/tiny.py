"""The config that these tests start from."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = REPOSITORY / "configs/tiny.py"
