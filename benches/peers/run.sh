#!/usr/bin/env bash
# Runs Overlap and its peers on the same sets in one session and prints a table of ratios.
#   benches/peers/run.sh [--customers N] [--pin one|two] [--only NAME,...] [--output table|json]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${PEERS_VENV:-$root/target/peers-venv}
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
fi
cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p overlap-server -p overlap-client -p overlap-benches
exec "$venv/bin/python" "$here/compare.py" --whole-run "$root/target/release/whole-run" "$@"
