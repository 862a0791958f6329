"""One phone over one transport: keeps ``phone.sh`` current and runs its verbs, reconnects, transfers verified files."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import structlog

from contracts.values import require_digest
from device_agents.bundle.manifest import Bundle
from device_agents.devices.android.sections import split_sections
from device_agents.transports.base import OnLine, ShellResult, Transport
from device_agents.transports.errors import PhoneError, PhoneFull, PhoneOffline, PhoneUnauthorized

log = structlog.get_logger()
Result = TypeVar("Result")
SCRIPT = Path(__file__).with_name("phone.sh")
PART = 64 << 20  # larger files are sent in parts, so that a lost connection costs only one of them
RECONNECT_S = 180.0  # a phone reboots in less
MAX_CUTS = 5  # per file or command
TRIES = 3  # sends of a file whose content arrives corrupted


class Phone:
    """``root`` is the folder of our files on the phone; the phone itself reports it."""

    def __init__(
        self, transport: Transport, part_bytes: int = PART, reconnect_s: float = RECONNECT_S,
        sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.transport, self.root = transport, ""
        self._part, self._reconnect_s, self._sleep, self._clock = part_bytes, reconnect_s, sleep, clock
        self._script = SCRIPT.read_bytes()
        self._name = f"phone-{hashlib.sha256(self._script).hexdigest()[:12]}.sh"

    @property
    def serial(self) -> str:
        return self.transport.serial

    def connect(self) -> None:
        """Connects and makes sure that the phone has this version of ``phone.sh``. Two round trips if it does."""
        self.transport.connect()
        reply = self.shell("echo ${HILNAS_PHONE_ROOT:-/data/local/tmp/hilnas}").stdout.split()
        if not reply:
            raise PhoneOffline(self.serial, "its shell gives no output")
        self.root = reply[-1]
        found = self.shell(f"mkdir -p {self.root}/blocks {self.root}/runs && sha256sum {self.root}/{self._name}").stdout
        if not found.startswith(hashlib.sha256(self._script).hexdigest()):
            self.transport.push(SCRIPT, f"{self.root}/{self._name}")

    def reconnect(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Retries until the phone answers; a refused key or RECONNECT_S of silence raises the last error."""
        deadline = self._clock() + self._reconnect_s
        pause = 0.2
        while True:
            try:
                self.connect()
            except PhoneUnauthorized:
                raise
            except PhoneError as error:
                if self._clock() > deadline or cancelled():
                    raise
                log.info("phone_not_back_yet", serial=self.serial, reason=type(error).__name__)
                self._sleep(pause)
                pause = min(5.0, pause * 1.5)
            else:
                log.info("phone_reconnected", serial=self.serial)
                return

    def shell(self, command: str, timeout_s: float = 30.0, on_line: OnLine | None = None) -> ShellResult:
        return self.transport.shell(command, timeout_s, on_line)

    def verb(self, *words: str, timeout_s: float = 60.0, on_line: OnLine | None = None) -> ShellResult:
        """Runs one verb of ``phone.sh``."""
        return self.shell(f"sh {self.root}/{self._name} {shlex.join(words)}", timeout_s, on_line)

    def sections(self, *words: str) -> dict[str, str]:
        """A verb's output by section. Reconnects and retries once, which is safe for reading verbs."""
        try:
            return split_sections(self.verb(*words).stdout)
        except PhoneOffline:
            self.reconnect()
            return split_sections(self.verb(*words).stdout)

    # --- files -------------------------------------------------------------------------------------------------------

    def inventory(self) -> dict[str, str]:
        """File name of a block -> sha256 of the file on the phone. Reads every byte."""
        text = split_sections(self.verb("inventory", timeout_s=300.0).stdout).get("blocks", "")
        rows = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
        return {name.strip().removeprefix("./"): digest for digest, name in rows}

    def put_blocks(self, files: Mapping[str, Path], on_file: Callable[[str, int], None] | None = None) -> None:
        """Sends blocks (digest -> file) and verifies them on the phone; resumes after lost connections.

        Raises PhoneFull, or PhoneError for a block that keeps arriving corrupted.
        """
        for digest in files:
            require_digest(digest)
        waiting = dict(files)
        for _ in range(TRIES):
            self._send_all(waiting, on_file)
            bad = self._verify(list(waiting))
            waiting = {line.split()[1]: files[line.split()[1]] for line in bad.splitlines() if line.startswith("bad ")}
            if not waiting:
                return
            log.warning("blocks_arrived_different", serial=self.serial, count=len(waiting))
        raise PhoneError(
            f"{len(waiting)} blocks arrived corrupted on phone {self.serial} {TRIES} times in a row:"
            " try another cable or port"
        )

    def evict(self, keep: Iterable[str]) -> None:
        """Removes every block but ``keep``."""
        self._through_cuts(lambda: self.verb("evict", *keep))

    def _verify(self, digests: list[str]) -> str:
        return self._through_cuts(lambda: self.verb("verify", *digests, timeout_s=600.0).stdout)

    def _send_all(self, files: Mapping[str, Path], on_file: Callable[[str, int], None] | None) -> None:
        for digest, path in files.items():
            self._through_cuts(lambda d=digest, p=path: self._send(d, p))  # type: ignore[misc]
            if on_file:
                on_file(digest, path.stat().st_size)

    def _send(self, digest: str, path: Path) -> None:
        size, target = path.stat().st_size, f"{self.root}/blocks/{digest}"
        if size <= self._part:
            self.transport.push(path, f"{target}.partial")
            return
        done = self.shell(f"stat -c %s {target}.partial 2>/dev/null || echo 0").stdout.strip()
        offset = int(done) if done.isdigit() else 0
        with path.open("rb") as source, tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "part"
            while offset < size:
                source.seek(offset)
                part.write_bytes(source.read(self._part))
                self.transport.push(part, f"{target}.part")
                reply = self.verb("append", digest, timeout_s=120.0)
                if reply.exit_code or not reply.stdout.strip().isdigit():
                    raise PhoneFull(self.serial, target)
                offset = int(reply.stdout)

    def put_bundle(self, bundle: Bundle) -> None:
        """Sends loader, libraries and runner unless the phone already has this bundle."""
        digest, target = bundle.digest[:16], f"{self.root}/bundle-{bundle.digest[:16]}"
        if self.shell(f"test -x {target}/hilnas-runner").exit_code == 0:
            return
        self.shell(f"rm -rf {target}.new; mkdir -p {target}.new")
        with tempfile.TemporaryDirectory() as folder:
            sums = Path(folder) / "SHA256SUMS"
            sums.write_text("".join(f"{file.sha256}  {name}\n" for name, file in bundle.files.items()))
            for path in [*(bundle.path / name for name in bundle.files), sums]:
                self._through_cuts(lambda p=path: self.transport.push(p, f"{target}.new/{p.name}", mode=0o755))  # type: ignore[misc]
        if "ready" not in self._through_cuts(lambda: self.verb("bundle", digest).stdout):
            raise PhoneError(f"the bundle arrived corrupted on phone {self.serial}; start the agent again")
        log.info("bundle_pushed", serial=self.serial, bundle=digest)

    def _through_cuts(self, action: Callable[[], Result]) -> Result:
        """Runs ``action``, reconnecting and repeating it after a lost connection, at most MAX_CUTS times."""
        for _ in range(MAX_CUTS):
            try:
                return action()
            except PhoneOffline as error:
                log.info("connection_cut", serial=self.serial, reason=str(error))
                self.reconnect()
        return action()

    def drop_runs(self, keys: Iterable[str]) -> None:
        self.verb("drop", *keys)
