#!/usr/bin/env bash
# Makes a Python environment with the readers that archives are checked with, outside of the repository; prints its python.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${FINK_CACHE:-$HOME/.cache/fink}/venv
want=$(sha256sum <"$here/requirements.txt")
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/.made-from" 2>/dev/null)" != "$want" ]; then
  python3 -m venv "$venv" >&2
  "$venv/bin/python" -m pip install -q -r "$here/requirements.txt" >&2
  echo "$want" >"$venv/.made-from"
fi
echo "$venv/bin/python"
