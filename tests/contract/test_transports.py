"""Every way to a phone: the same commands, files and faults over each, against a true adbd."""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agents.transports.adb_server import AdbServerTransport
from device_agents.transports.adb_shell import AdbShellTransport
from device_agents.transports.base import Transport
from device_agents.transports.errors import PhoneAbsent, PhoneError, PhoneFull, PhoneOffline, PhoneUnauthorized
from tests.e2e.processes import free_port, wait_for
from tests.phones.local import block
from tests.phones.virtual import start
from virtual_phone.phone import VirtualPhone

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPhone]:
    phone = start(tmp_path_factory.mktemp("phone"))
    yield phone
    phone.close()


class TransportContract:
    @pytest.fixture
    def transport(self, phone: VirtualPhone, tmp_path: Path) -> Iterator[Transport]:
        raise NotImplementedError

    def test_a_command_tells_exit_code_and_both_streams(self, transport: Transport) -> None:
        done = transport.shell("echo out; echo 'err or' >&2; printf last; exit 3")
        assert (done.exit_code, done.stdout, done.stderr.strip()) == (3, "out\nlast", "err or")
        assert transport.shell("true").exit_code == 0

    def test_lines_come_as_they_are_said(self, transport: Transport) -> None:
        heard: list[tuple[str, float]] = []
        transport.shell("echo one; sleep 0.4; echo two", on_line=lambda line: heard.append((line, time.monotonic())))
        assert [line for line, _ in heard] == ["one", "two"] and heard[1][1] - heard[0][1] > 0.2

    def test_what_a_listener_raises_ends_the_command(self, transport: Transport) -> None:
        def stop(_: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            transport.shell("echo go; sleep 30", on_line=stop)
        transport.connect()
        assert transport.shell("echo again").stdout == "again\n"

    def test_silence_is_a_phone_that_went_away(self, transport: Transport) -> None:
        with pytest.raises(PhoneOffline):
            transport.shell("sleep 20", timeout_s=0.5)

    def test_files_go_and_come_back(self, transport: Transport, phone: VirtualPhone, tmp_path: Path) -> None:
        digest, path = block(tmp_path, 3_000_001)
        seen: list[tuple[int, int]] = []
        target = f"{phone.root}/new folder/{digest}"
        transport.push(path, target, mode=0o755, progress=lambda sent, size: seen.append((sent, size)))
        assert seen[-1] == (3_000_001, 3_000_001) and Path(target).stat().st_mode & stat.S_IXUSR
        back = tmp_path / "back" / "file"
        transport.pull(target, back)
        assert back.read_bytes() == path.read_bytes()
        assert transport.traffic.bytes_pushed == transport.traffic.bytes_pulled == 3_000_001

    def test_a_file_that_is_not_there(self, transport: Transport, phone: VirtualPhone, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="is not on phone"):
            transport.pull(f"{phone.root}/nothing", tmp_path / "x")

    def test_full_storage(self, transport: Transport, phone: VirtualPhone, tmp_path: Path) -> None:
        _, path = block(tmp_path, 200_000)
        phone.full_storage()
        try:
            with pytest.raises(PhoneFull, match="no space left"):
                transport.push(path, f"{phone.root}/blocks/big")
        finally:
            phone.full_storage(False)
        transport.connect()
        transport.push(path, f"{phone.root}/blocks/big")

    def test_a_cut_in_mid_push_and_the_way_back(
        self, transport: Transport, phone: VirtualPhone, tmp_path: Path
    ) -> None:
        _, path = block(tmp_path, 8_000_000)
        phone.cut(after_bytes=1_000_000, delay_s=0.2)
        with pytest.raises(PhoneOffline):
            transport.push(path, f"{phone.root}/blocks/cut")
        wait_for("the phone to be back", lambda: came_back(transport), 20.0)
        transport.push(path, f"{phone.root}/blocks/cut")
        assert (phone.root / "blocks" / "cut").stat().st_size == 8_000_000

    def test_a_cut_in_mid_command(self, transport: Transport, phone: VirtualPhone) -> None:
        with pytest.raises(PhoneOffline):
            transport.shell("echo go; sleep 30", on_line=lambda _: phone.cut_now(0.2))
        wait_for("the phone to be back", lambda: came_back(transport), 20.0)
        assert transport.shell("echo here").stdout == "here\n"

    def test_an_unauthorized_phone_is_told_with_the_step(self, transport: Transport, phone: VirtualPhone) -> None:
        phone.unauthorized()
        try:
            refused = wait_for("the refusal", lambda: refusal_of(transport), 20.0)
            assert isinstance(refused, PhoneUnauthorized) and "Allow USB debugging" in str(refused)
        finally:
            phone.unauthorized(False)
        wait_for("the phone to be allowed", lambda: came_back(transport), 20.0)


def refusal_of(transport: Transport) -> PhoneError | None:
    """What connecting is answered, once the phone is back on the cable."""
    try:
        transport.connect()
    except (PhoneAbsent, PhoneOffline):
        return None
    except PhoneError as error:
        return error
    raise AssertionError("the key was accepted")


def came_back(transport: Transport) -> bool:
    try:
        transport.connect()
    except PhoneError:
        return False
    return True


class TestAdbShell(TransportContract):
    @pytest.fixture
    def transport(self, phone: VirtualPhone, tmp_path: Path) -> Iterator[Transport]:
        transport = AdbShellTransport(phone.address, key=tmp_path / "keys" / "adbkey", accept_s=2.0)
        transport.connect()
        yield transport
        transport.close()

    def test_the_key_is_this_hosts_own(self, transport: Transport, tmp_path: Path) -> None:
        assert stat.S_IMODE((tmp_path / "keys" / "adbkey").stat().st_mode) == 0o600

    def test_nobody_there(self, tmp_path: Path) -> None:
        transport = AdbShellTransport(f"127.0.0.1:{free_port()}", key=tmp_path / "adbkey")
        with pytest.raises(PhoneAbsent, match="no phone answers"):
            transport.connect()


class TestAdbServer(TransportContract):
    @pytest.fixture(scope="class")
    def adb(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
        if shutil.which("adb") is None:
            pytest.skip("adb is not installed (apt-get install adb)")
        port = free_port()
        yield {"port": port}
        AdbServerTransport("none", port=port).stop_server()

    @pytest.fixture
    def transport(self, phone: VirtualPhone, adb: dict[str, int]) -> Iterator[Transport]:
        transport = AdbServerTransport(phone.address, port=adb["port"], accept_s=2.0)
        wait_for("the phone to be allowed", lambda: came_back(transport), 20.0)
        yield transport

    def test_nobody_there(self, adb: dict[str, int]) -> None:
        with pytest.raises(PhoneAbsent, match="no phone answers"):
            AdbServerTransport(f"127.0.0.1:{free_port()}", port=adb["port"]).connect()
