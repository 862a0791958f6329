"""This host's adb key: created once, mode 0600, outside of any image."""

from __future__ import annotations

import os
from pathlib import Path

from adb_shell.auth.keygen import keygen
from adb_shell.auth.sign_pythonrsa import PythonRSASigner


def default_key() -> Path:
    """HILNAS_ADB_KEY, else the key of Google's adb on this host, so that a phone asks only once for both."""
    named = os.environ.get("HILNAS_ADB_KEY")
    return Path(named) if named else Path.home() / ".android" / "adbkey"


def load_signer(path: Path) -> PythonRSASigner:
    """The key at ``path``, created if it does not exist."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        before = os.umask(0o077)
        try:
            keygen(str(path))
        finally:
            os.umask(before)
    path.chmod(0o600)
    public = path.with_name(path.name + ".pub")
    return PythonRSASigner(public.read_text(), path.read_text())
