"""The virtual phone over the true protocol, by a client that knows nothing of it: adb-shell."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

adb_device = pytest.importorskip("adb_shell.adb_device", reason="needs adb-shell: pip install 'hilnas[phone]'")
from adb_shell.auth.keygen import keygen  # noqa: E402
from adb_shell.auth.sign_pythonrsa import PythonRSASigner  # noqa: E402
from adb_shell.exceptions import (  # noqa: E402
    AdbCommandFailureException,
    DeviceAuthError,
    PushFailedError,
    TcpTimeoutException,
)

from device_agents.bundle.manifest import Bundle  # noqa: E402
from device_agents.bundle.toolchain import find_emulator  # noqa: E402
from foundation.errors import InvalidConfig  # noqa: E402
from virtual_phone.daemon import build_shim  # noqa: E402
from virtual_phone.debian import fetch_adbd  # noqa: E402
from virtual_phone.phone import VirtualPhone  # noqa: E402

pytestmark = pytest.mark.e2e
DEADLINE_S = 20.0
ROOT = Path(__file__).parents[2]
SYS_CPU = "$HILNAS_SYSROOT/sys/devices/system/cpu"
SPIN = "while :; do sleep 0.1; done"


class Client:
    """adb-shell with a key of its own."""

    def __init__(self, phone: VirtualPhone, key: Path) -> None:
        if not key.exists():
            keygen(str(key))
        self._signer = PythonRSASigner.FromRSAKeyPath(str(key))
        self._phone = phone
        self._device: adb_device.AdbDeviceTcp | None = None

    def connect(self, timeout_s: float = 5.0) -> None:
        self.close()
        host, _, port = self._phone.address.partition(":")
        self._device = adb_device.AdbDeviceTcp(host, int(port), default_transport_timeout_s=5.0)
        self._device.connect(rsa_keys=[self._signer], auth_timeout_s=timeout_s)

    def shell(self, command: str) -> str:
        return str(self._device.shell(command)).strip()

    def push(self, source: Path, target: Path) -> None:
        self._device.push(str(source), str(target))

    def close(self) -> None:
        if self._device is not None:
            self._device.close()
            self._device = None


@pytest.fixture(scope="session", autouse=True)
def adbd() -> None:
    try:
        find_emulator()
        fetch_adbd()
        build_shim()
    except InvalidConfig as error:
        if os.environ.get("HILNAS_REQUIRE_PHONE") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[VirtualPhone]:
    with VirtualPhone(tmp_path / "s25", model="s25") as started:
        yield started


@pytest.fixture
def client(phone: VirtualPhone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    one = Client(phone, tmp_path_factory.getbasetemp() / "adbkey")
    one.connect()
    yield one
    one.close()


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < end, "nothing happened before the deadline"
        time.sleep(0.05)


def reconnected(client: Client) -> Callable[[], bool]:
    def attempt() -> bool:
        try:
            client.connect()
        except OSError:
            return False
        return True

    return attempt


def wait_for(file: str) -> str:
    """A shell that ends takes children along that have not yet left its session."""
    return f"while [ ! -s {file} ]; do :; done"


def push_bundle(client: Client, bundle: Bundle, phone: VirtualPhone) -> str:
    for name in bundle.files:
        client.push(bundle.path / name, phone.root / "bundle" / name)
    client.shell("cd $HILNAS_PHONE_ROOT/bundle && chmod 755 hilnas-runner ld-linux-aarch64.so.1")
    return "cd $HILNAS_PHONE_ROOT/bundle && $HILNAS_EMULATOR " + " ".join(bundle.runner_command)


def test_it_says_what_a_galaxy_says(client: Client) -> None:
    assert client.shell("getprop ro.product.model") == "SM-S931B"
    assert client.shell("getprop ro.hilnas.virtual") == "1"
    assert "  temperature: 295" in client.shell("dumpsys battery")
    assert "Thermal Status: 0" in client.shell("dumpsys thermalservice")
    assert client.shell("getconf PAGE_SIZE") == "4096"
    assert "mWakefulness=Awake" in client.shell("dumpsys power")
    assert client.shell("settings get system nothing") == "null"


def test_cores_keep_the_places_of_the_recorded_clusters(client: Client) -> None:
    khz = [int(line) for line in client.shell(f"cat {SYS_CPU}/cpu[0-9]*/cpufreq/cpuinfo_max_freq").split()]
    assert len(khz) == min(8, len(os.sched_getaffinity(0)))
    assert khz == sorted(khz) and khz[-1] == 4473600


def test_the_pushed_bundle_runs(client: Client, phone: VirtualPhone, phone_bundle: Bundle) -> None:
    command = push_bundle(client, phone_bundle, phone)
    assert client.shell(f"{command} --version") == phone_bundle.runner_version
    assert phone.traffic.opens >= len(phone_bundle.files) + 2
    assert phone.traffic.bytes_in > phone_bundle.total_bytes


def test_fixed_performance_mode_caps_and_is_lost_by_a_reboot(client: Client, phone: VirtualPhone) -> None:
    caps = f"cat {SYS_CPU}/cpufreq/policy*/scaling_max_freq"
    free = client.shell(caps)
    client.shell("cmd power set-fixed-performance-mode-enabled true")
    assert client.shell(caps) != free
    phone.reboot(down_s=0.2)
    until(reconnected(client))
    assert client.shell(caps) == free
    phone.no_fixed_mode()
    assert "not supported on this device" in client.shell("cmd power set-fixed-performance-mode-enabled true")


def test_unplug_freezes_the_battery_until_reset(client: Client, phone: VirtualPhone) -> None:
    client.shell("dumpsys battery unplug")
    phone.hot(44.0, cools_after_s=60)
    shown = client.shell("dumpsys battery")
    assert "UPDATES STOPPED" in shown and "USB powered: false" in shown and "temperature: 295" in shown
    assert "mValue=44.0, mType=2, mName=BAT" in client.shell("dumpsys thermalservice")
    client.shell("dumpsys battery reset")
    assert "temperature: 440" in client.shell("dumpsys battery")


def test_a_cut_in_mid_push_and_the_way_back(client: Client, phone: VirtualPhone, tmp_path: Path) -> None:
    file = tmp_path / "block"
    file.write_bytes(bytes(8 << 20))
    phone.cut(after_bytes=3 << 20, delay_s=0.2)
    with pytest.raises(OSError):
        client.push(file, phone.root / "block")
    until(reconnected(client))
    client.push(file, phone.root / "block")
    assert (phone.root / "block").stat().st_size == 8 << 20


def test_what_runs_survives_a_cut_but_no_reboot(client: Client, phone: VirtualPhone) -> None:
    boot_id = "cat $HILNAS_SYSROOT/proc/sys/kernel/random/boot_id"
    first = client.shell(boot_id)
    client.shell(f"setsid sh -c 'echo $$ >pid; {SPIN}' </dev/null >/dev/null 2>&1 & {wait_for('pid')}")
    pid = int((phone.root / "pid").read_text())
    phone.cut_now(delay_s=0.1)
    until(reconnected(client))
    assert client.shell(f"kill -0 {pid} && echo alive") == "alive"
    phone.reboot(down_s=0.2)
    until(reconnected(client))
    assert "alive" not in client.shell(f"kill -0 {pid} && echo alive")
    assert client.shell(boot_id) != first
    assert client.shell("cat pid") == str(pid)  # files stay


def test_an_unauthorized_key(client: Client, phone: VirtualPhone) -> None:
    phone.unauthorized(True)
    with pytest.raises((DeviceAuthError, TcpTimeoutException)):
        until(lambda: _refused(client))
    phone.unauthorized(False)
    until(reconnected(client))
    assert client.shell("echo in") == "in"


def _refused(client: Client) -> bool:
    """A refused connection passes (the cable comes back), a refused key raises."""
    try:
        client.connect(timeout_s=0.5)
    except (ConnectionRefusedError, ConnectionResetError):
        return False
    return True


def test_full_storage(client: Client, phone: VirtualPhone, tmp_path: Path) -> None:
    file = tmp_path / "block"
    file.write_bytes(b"x" * 100_000)
    phone.full_storage(True)
    with pytest.raises((PushFailedError, AdbCommandFailureException), match="No space left"):
        client.push(file, phone.root / "block")
    client.connect()
    assert "No space left" in client.shell("echo words >$HILNAS_PHONE_ROOT/file")
    assert client.shell("df -k $HILNAS_PHONE_ROOT | tail -n 1").split()[3] == "0"
    phone.full_storage(False)
    client.push(file, phone.root / "block")


def test_a_hot_phone_cools(client: Client, phone: VirtualPhone) -> None:
    phone.hot(44.0, cools_after_s=1.0)
    said = client.shell("dumpsys battery; dumpsys thermalservice")
    assert "temperature: 440" in said and "Thermal Status: 4" in said
    until(lambda: "Thermal Status: 0" in client.shell("dumpsys thermalservice"))


def test_throttling_comes_while_a_runner_works(client: Client, phone: VirtualPhone, phone_bundle: Bundle) -> None:
    command = push_bundle(client, phone_bundle, phone)
    caps = f"cat {SYS_CPU}/cpufreq/policy*/scaling_max_freq"
    free = client.shell(caps)
    phone.throttle()
    assert client.shell(caps) == free
    serve = f"exec 3<>plans; echo >started; {command} --serve <&3"
    client.shell(f"mkfifo plans; setsid sh -c '{serve}' </dev/null >/dev/null 2>&1 & {wait_for('started')}")
    until(lambda: client.shell(caps) != free)
    assert "Thermal Status: 2" in client.shell("dumpsys thermalservice")
    until(lambda: phone.kill_runner() == 1)


def test_residency_grows(client: Client) -> None:
    def ticks() -> int:
        rows = client.shell(f"cat {SYS_CPU}/cpufreq/policy*/stats/time_in_state").splitlines()
        return sum(int(row.split()[1]) for row in rows)

    before = ticks()
    until(lambda: ticks() > before)


def test_a_wrong_clock(client: Client, phone: VirtualPhone) -> None:
    phone.wrong_clock(7200)
    assert abs(int(client.shell("date +%s")) - time.time() - 7200) < 5


def test_two_phones_side_by_side(client: Client, tmp_path: Path) -> None:
    with VirtualPhone(tmp_path / "s24", model="s24", serial="R5CTEST24") as second:
        other = Client(second, tmp_path / "key")
        other.connect()
        assert other.shell("getprop ro.serialno; getprop ro.product.model").split() == ["R5CTEST24", "SM-S921B"]
        assert client.shell("getprop ro.product.model") == "SM-S931B"
        other.close()


def test_close_leaves_no_process(tmp_path: Path) -> None:
    with VirtualPhone(tmp_path / "phone") as phone:
        client = Client(phone, tmp_path / "key")
        client.connect()
        client.shell(f"setsid sh -c 'echo >started; {SPIN}' </dev/null >/dev/null 2>&1 & {wait_for('started')}")
        client.close()
    assert not left_behind(tmp_path / "phone")


def test_a_killed_owner_leaves_no_process(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from virtual_phone.phone import VirtualPhone; "
    code += "VirtualPhone(Path(sys.argv[1])).start(); print('up', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path / "phone")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
        assert left_behind(tmp_path / "phone")
        owner.kill()
    until(lambda: not left_behind(tmp_path / "phone"))


def left_behind(state: Path) -> list[Path]:
    mark = f"={state}".encode()
    return [path for path in Path("/proc").glob("[0-9]*/environ") if mark in _environment(path)]


def _environment(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
