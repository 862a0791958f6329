#!/usr/bin/env bash
# Installs what the phone bundle and the virtual phone need beside the virtual environment. Does nothing when all is there.
set -euo pipefail

packages=()
command -v aarch64-linux-gnu-g++ >/dev/null || packages+=(g++-aarch64-linux-gnu)
command -v qemu-aarch64-static >/dev/null || command -v qemu-aarch64 >/dev/null || packages+=(qemu-user-static)
[ "$(uname -m)" != aarch64 ] || packages=()
command -v gcc >/dev/null || packages+=(gcc)
command -v adb >/dev/null || [ "${1:-}" != --with-adb ] || packages+=(adb)
[ ${#packages[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null || ! { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }; then
  echo "virtual phone: install ${packages[*]} first (Debian, Ubuntu, as root: apt-get install ${packages[*]})" >&2
  exit 1
fi
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }
echo "virtual phone: installing ${packages[*]}"
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
