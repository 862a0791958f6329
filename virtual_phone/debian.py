"""Fetches Debian's ``adbd`` (AOSP's own daemon) with all its libraries and unpacks it; nothing is installed, no root.

apt-get works in a state folder of its own, so the machine's package database is neither read nor changed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

from foundation.errors import InvalidConfig
from foundation.files import atomic_folder

CACHE = Path(__file__).parents[1] / "build" / "adbd"
SUITE = "trixie"  # the first release that has adbd
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DAEMON = "usr/lib/android-sdk/platform-tools/adbd"


def fetch_adbd(cache: Path = CACHE) -> Path:
    """The folder with ``usr/``; downloads 8 MB on the first call."""
    root = cache / "root"
    if (root / DAEMON).exists():
        return root
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise InvalidConfig(f"adbd comes from Debian's packages, which needs {tool}: use Debian or Ubuntu")
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (root / DAEMON).exists():
            _unpack(_download(cache), cache, root)
    return root


def adbd_command(root: Path) -> list[str]:
    """Starts adbd with the loader from its package: the host's libc may be older. Its children use the host's."""
    loader = next((root / "usr" / "lib").glob("*-linux-gnu/ld-linux-*.so.*"))
    libraries = f"{loader.parent}:{loader.parent / 'android'}"
    return [str(loader), "--library-path", libraries, str(root / DAEMON)]


def debian_mirror(sources: Path = Path("/etc/apt")) -> str:
    """HILNAS_DEBIAN_MIRROR, else the Debian mirror from this machine's package sources."""
    if given := os.environ.get("HILNAS_DEBIAN_MIRROR"):
        return given
    files = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]
    for file in files:
        text = file.read_text() if file.is_file() else ""
        for uri in re.findall(r"^(?:deb\s+(?:\[.*?\]\s+)?|URIs:\s*)(\S+)", text, re.MULTILINE):
            if re.search(r"/debian/?$", uri):
                return str(uri)
    raise InvalidConfig("no Debian mirror among this machine's package sources; set HILNAS_DEBIAN_MIRROR to one's URL")


def _download(cache: Path) -> list[Path]:
    apt = cache / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    (apt / "sources.list").write_text(f"deb {signed}{debian_mirror()} {SUITE} main\n")
    (apt / "status").write_text("")
    _apt(apt, "update")
    _apt(apt, "--no-install-recommends", "--download-only", "--yes", "install", "adbd")
    return sorted((apt / "archives").glob("*.deb"))


def _apt(apt: Path, *arguments: str) -> None:
    options = {
        "Dir::State": apt, "Dir::State::lists": apt / "lists", "Dir::State::status": apt / "status", "Dir::Cache": apt,
        "Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "Acquire::Languages": "none", "Acquire::Retries": 3, "APT::Sandbox::User": "root", "Debug::NoLocking": "true",
    }  # fmt: skip
    command = ["apt-get", "-qq", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message from apt-get").splitlines()[-1]
        raise InvalidConfig(f"adbd could not be fetched from Debian's {SUITE}: {last}")


def _unpack(packages: list[Path], cache: Path, root: Path) -> None:
    with atomic_folder(root) as partial:
        for package in packages:
            subprocess.run(["dpkg-deb", "--extract", str(package), str(partial)], check=True)
    shutil.rmtree(cache / "apt")
