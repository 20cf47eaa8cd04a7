#!/usr/bin/env bash
# scripts/bench_gpu.sh [FILE]: the checks and benchmarks for an NVIDIA GPU under the machine's own
# Python, without network. The figures go to FILE (default $OUT/bench_gpu.json, or ./bench_gpu.json).
#
#   PYTHON   the interpreter, with jax for CUDA and, to be measured beside it, torch (default python3)
#   WHEELS   a folder of wheels; those of packages that the interpreter lacks are used for this run
#   ROUNDS   rounds of each contestant (default 7)
set -euo pipefail

die() { echo "scripts/bench_gpu.sh: $*" >&2; exit 2; }
has() { "$python" -c "import $1" 2>/dev/null; }

[[ $# -le 1 ]] || die "found $# arguments, required at most one, the file for the figures"
file=${1:-${OUT:-.}/bench_gpu.json}
[[ $file != -* ]] || die "found $file, required a file for the figures; settings are variables"
[[ -d $(dirname "$file") ]] || die "found no folder $(dirname "$file"), required for $file; make it"
file=$(cd "$(dirname "$file")" && pwd)/$(basename "$file")
python=$(command -v "${PYTHON:-python3}") ||
  die "found no program ${PYTHON:-python3}, required a Python with jax; name one: PYTHON=..."

if [[ -n ${WHEELS:-} ]]; then
  compgen -G "$WHEELS/*.whl" >/dev/null ||
    die "found no wheels in WHEELS=$WHEELS, required a folder of them; correct or unset it"
  # Beside the interpreter's own packages and not in an environment: where python3 is itself of an
  # environment, another one made from it does not see that one's packages.
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  missing=$("$python" - "$WHEELS"/*.whl <<'PYTHON'
import sys
from importlib import metadata
from pathlib import Path

for wheel in sys.argv[1:]:
    try:
        metadata.version(Path(wheel).name.split("-")[0])
    except metadata.PackageNotFoundError:
        print(wheel)
PYTHON
  )
  mapfile -t wheels <<<"$missing"
  if [[ -n $missing ]]; then
    "$python" -m pip install --quiet --no-index --no-deps --target "$site" "${wheels[@]}" >&2
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
  fi
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
peer=
if has torch; then peer=torch; fi
"$python" -m nanogpt_jax.bench gpu --peer="$peer" --rounds="${ROUNDS:-7}" --json="$file"
if has "hypothesis, pytest, xdist"; then
  JAX_PLATFORMS=cuda XLA_FLAGS= "$python" -m pytest -q -n 0 -m needs_gpu tests/test_attention_kernel.py
fi
