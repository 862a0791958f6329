"""The virtual phone's parts without a daemon: files, time, keys, message headers, package sources."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InvalidConfig
from virtual_phone.auth import SHA1_PREFIX, KeyRing, PublicKey
from virtual_phone.debian import debian_mirror
from virtual_phone.life import Life
from virtual_phone.proxy import HEADER, OPEN, HeaderReader
from virtual_phone.system import PhoneFiles, cpu_list, models, recorded, spread_cores

POLICY = "sys/devices/system/cpu/cpufreq/policy1"


class Clock:
    now = 1000.0
    busy = False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path: Path) -> PhoneFiles:
    made = PhoneFiles(tmp_path, "s25", "SERIAL", [0, 1])
    made.create()
    made.boot()
    return made


@pytest.fixture
def life(files: PhoneFiles, clock: Clock) -> Life:
    return Life(files, lambda: clock.busy, lambda: clock.now)


def read(files: PhoneFiles, path: str) -> str:
    return (files.sysroot / path).read_text().strip()


def live(life: Life, clock: Clock, seconds: float, tick_s: float = 0.1) -> None:
    for _ in range(round(seconds / tick_s)):
        clock.now += tick_s
        life.step()


@pytest.mark.parametrize("model", models())
@pytest.mark.parametrize("num_cores", range(1, 9))
def test_cores_are_spread_from_slow_to_fast(model: str, num_cores: int) -> None:
    policies = spread_cores(recorded(model)["clusters"], list(range(num_cores)))
    cpus = [cpu for policy in policies for cpu in policy.cpus]
    speeds = [policy.cluster["max_khz"] for policy in policies]
    assert cpus == list(range(num_cores))
    assert speeds == sorted(speeds)
    assert speeds[-1] == max(cluster["max_khz"] for cluster in recorded(model)["clusters"])


@pytest.mark.parametrize(("cpus", "text"), [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 7], "0,2-3,7")])
def test_a_set_of_cores_is_written_as_the_kernel_does(cpus: list[int], text: str) -> None:
    assert cpu_list(cpus) == text


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidConfig, match="s24, s25"):
        recorded("pixel")


def test_residency_counts_hundredths_at_the_current_clock(files: PhoneFiles, life: Life, clock: Clock) -> None:
    live(life, clock, 2.0)
    clock.busy = True
    live(life, clock, 3.0)
    rows = dict(map(int, line.split()) for line in read(files, f"{POLICY}/stats/time_in_state").splitlines())
    assert rows[1_017_600] == pytest.approx(200, abs=1)
    assert rows[4_473_600] == pytest.approx(300, abs=1)
    assert float(read(files, "proc/uptime").split()[0]) == pytest.approx(5.0)


def test_a_battery_warms_mildly_under_load(files: PhoneFiles, life: Life, clock: Clock) -> None:
    clock.busy = True
    live(life, clock, 600.0, tick_s=2.0)
    assert 310 < int(files.get("battery/temperature")) < 330
    assert files.get("thermal/status") == "0"
    clock.busy = False
    live(life, clock, 600.0, tick_s=2.0)
    assert int(files.get("battery/temperature")) == 295


def test_throttling_needs_a_runner_and_lasts_a_little(files: PhoneFiles, life: Life, clock: Clock) -> None:
    life.throttles = True
    live(life, clock, 2.0)
    assert read(files, f"{POLICY}/scaling_max_freq") == "4473600"
    clock.busy = True
    live(life, clock, 1.0)
    assert read(files, f"{POLICY}/scaling_max_freq") == "2684000"
    assert files.get("thermal/status") == "2"
    clock.busy = False
    live(life, clock, 7.0)
    assert read(files, f"{POLICY}/scaling_max_freq") == "4473600"
    assert files.get("thermal/status") == "0"


def test_heat_passes(files: PhoneFiles, life: Life, clock: Clock) -> None:
    life.heat(41.0, cools_after_s=10.0)
    assert files.get("battery/temperature") == "410" and files.get("thermal/status") == "3"
    live(life, clock, 11.5)
    assert files.get("battery/temperature") == "295" and files.get("thermal/status") == "0"


def test_a_boot_forgets_what_a_phone_forgets(files: PhoneFiles, life: Life, clock: Clock) -> None:
    boot_id = read(files, "proc/sys/kernel/random/boot_id")
    files.put("power/fixed", "true")
    files.put("settings/system/kept", "1")
    live(life, clock, 5.0)
    files.boot()
    life.boot()
    assert read(files, "proc/sys/kernel/random/boot_id") != boot_id
    assert files.get("power/fixed") == "false" and files.get("settings/system/kept") == "1"
    assert float(read(files, "proc/uptime").split()[0]) == 0.0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=8), st.integers(1, 997))
def test_headers_are_found_in_any_pieces(messages: list[tuple[bool, int]], piece: int) -> None:
    stream = b"".join(
        HEADER.pack(command, 0, 0, size, 0, command ^ 0xFFFFFFFF) + bytes(size)
        for command, size in ((OPEN if is_open else 0x45545257, size) for is_open, size in messages)
    )
    reader, found = HeaderReader(), []
    for start in range(0, len(stream), piece):
        found += reader.feed(stream[start : start + piece])
    assert found.count(OPEN) == sum(is_open for is_open, _ in messages)
    assert len(found) == len(messages)


def test_no_adb_is_told() -> None:
    with pytest.raises(ValueError, match="not an adb message"):
        HeaderReader().feed(b"GET / HTTP/1.1\r\nHost: localhost\r\n")


def test_signatures_are_checked(tmp_path: Path) -> None:
    """Two Mersenne primes make an RSA key without any library."""
    p, q, exponent = 2**1279 - 1, 2**2203 - 1, 65537
    modulus, secret = p * q, pow(exponent, -1, (p - 1) * (q - 1))
    key, token = PublicKey(modulus, exponent), bytes(range(20))
    size = (modulus.bit_length() + 7) // 8
    padded = b"\x00\x01" + b"\xff" * (size - 3 - len(SHA1_PREFIX) - 20) + b"\x00" + SHA1_PREFIX + token
    signature = pow(int.from_bytes(padded, "big"), secret, modulus).to_bytes(size, "big")
    assert key.signed(token, signature)
    assert not key.signed(bytes(20), signature)
    assert not KeyRing(tmp_path / "none").knows(token, signature)


def test_a_public_key_is_read_as_android_writes_it() -> None:
    import base64

    words = struct.pack("<II", 64, 0) + (12345).to_bytes(256, "little") + bytes(256) + struct.pack("<I", 65537)
    assert PublicKey.parse(f"{base64.b64encode(words).decode()} me@host") == PublicKey(12345, 65537)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sources.list", "# comment\ndeb [arch=amd64] http://mirror.example/debian bookworm main\n"),
        ("sources.list.d/debian.sources", "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n"),
    ],
)
def test_the_machines_own_mirror_is_taken(
    tmp_path: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HILNAS_DEBIAN_MIRROR", raising=False)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "a.list").write_text("deb http://other.example/debian-security x main\n")
    (tmp_path / name).write_text(text)
    assert debian_mirror(tmp_path) == "http://mirror.example/debian"


def test_no_debian_mirror_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HILNAS_DEBIAN_MIRROR", raising=False)
    with pytest.raises(InvalidConfig, match="HILNAS_DEBIAN_MIRROR"):
        debian_mirror(tmp_path)
    monkeypatch.setenv("HILNAS_DEBIAN_MIRROR", "http://given.example/debian")
    assert debian_mirror(tmp_path) == "http://given.example/debian"
