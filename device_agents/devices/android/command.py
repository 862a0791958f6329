"""``hilnas agent android|doctor|clear``: phones as measurement devices."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.table import Table

from device_agents.agent import Agent
from device_agents.bundle.build import ready_bundle
from device_agents.devices.android.condition import Limits
from device_agents.devices.android.device import AndroidDevice
from device_agents.devices.android.discovery import choose_transport, named_phones
from device_agents.devices.android.doctor import Finding, examine, unfit_sentence
from device_agents.devices.android.phone import Phone
from device_agents.enrolment import local_token
from foundation.errors import HilnasError, InvalidConfig

log = structlog.get_logger()
console = Console()
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}

Serials = Annotated[list[str], typer.Option("--serial", help="Phone on USB; may be given several times.")]
Addresses = Annotated[list[str], typer.Option("--connect", help="Phone at HOST:PORT; may be given several times.")]
Adb = Annotated[
    str | None, typer.Option(help="Go through Google's adb server with this adb (USB fleets, paired Wi-Fi).")
]
Key = Annotated[Path | None, typer.Option(help="adb key of this host, default ~/.android/adbkey.")]
MaxTemp = Annotated[float, typer.Option(help="Runs start below this battery temperature, degrees Celsius.")]
Floor = Annotated[int, typer.Option(help="No measuring below this battery level, percent.")]
Charge = Annotated[bool, typer.Option("--keep-charging", help="Do not stop charging while measuring.")]


def android(
    serial: Serials = [],  # noqa: B006
    connect: Addresses = [],  # noqa: B006
    url: Annotated[str, typer.Option(help="Coordinator.", envvar="HILNAS_URL")] = "http://127.0.0.1:8000",
    token: Annotated[list[str], typer.Option(help="Single-use enrolment token, one per new phone.")] = [],  # noqa: B006
    home: Annotated[Path, typer.Option(help="Credentials, block cache and unsent results.")] = Path("var/phones"),
    name: Annotated[str | None, typer.Option(help="Device name of a single phone, default model and serial.")] = None,
    adb: Adb = None,
    key: Key = None,
    max_temp: MaxTemp = Limits.max_start_c,
    battery_floor: Floor = Limits.battery_floor,
    poll: Annotated[float, typer.Option(help="Seconds between readings of a phone that cools.")] = Limits.poll_s,
    wait: Annotated[float, typer.Option(help="Longest wait for a phone to cool, seconds.")] = Limits.wait_s,
    keep_charging: Charge = False,
) -> None:
    """Measure on phones: plug one in (or name it) and it takes part in searches until the agent is stopped."""
    phones = named_phones(serial, connect)
    if name and len(phones) > 1:
        raise InvalidConfig(f"--name names one phone, {len(phones)} are given: leave it out")
    limits = Limits(max_start_c=max_temp, battery_floor=battery_floor, poll_s=poll, wait_s=wait)
    agents, tokens = [], list(token)
    for address in phones:
        device = AndroidDevice(
            Phone(choose_transport(address, adb, key)), ready_bundle(), name, limits, not keep_charging
        )
        folder = home / address.replace(":", "_")
        if admitted(device, address, alone=len(phones) == 1):
            enrolled = (folder / "credential.json").exists()
            given = None if enrolled else (tokens.pop(0) if tokens else local_token(url, folder))
            agents.append(Agent(url, device, folder, given))
    if not agents:
        raise HilnasError("no phone can measure; see the reasons above, `hilnas agent doctor` shows every check")
    serve_all(agents)


def admitted(device: AndroidDevice, address: str, alone: bool) -> bool:
    """Connects and examines a phone; one of several that cannot measure is skipped, with the reason logged."""
    try:
        device.connect()
        findings = examine(device, threads=min(2, device.facts.cores))
        if sentence := unfit_sentence(findings):
            device.close()
            raise HilnasError(f"phone {address} cannot measure. {sentence}")
    except HilnasError as error:
        if alone:
            raise
        log.error("phone_refused", serial=address, reason=str(error))
        return False
    for finding in findings:
        if finding.outcome == "warning":
            log.warning("phone_examined", serial=address, check=finding.name, found=finding.found, step=finding.step)
    return True


def open_phone(address: str) -> AndroidDevice:
    """A connected phone that can measure, for use without a coordinator."""
    device = AndroidDevice(Phone(choose_transport(address, None, None)), ready_bundle())
    admitted(device, address, alone=True)
    return device


def serve_all(agents: list[Agent]) -> None:
    """One thread and one lease loop per phone. A signal drains all; a second one ends at once."""
    threads = [threading.Thread(target=serve, args=(agent,), name=agent.device.facts.name) for agent in agents]

    def drain(*_: object) -> None:
        again = all(agent.stopping.is_set() for agent in agents)
        for agent in agents:
            agent.drain()
        if again:
            for agent in agents:
                agent.device.rest()
            raise SystemExit(130)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, drain)
    for thread in threads:
        thread.daemon = True
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.5)


def serve(agent: Agent) -> None:
    """Serves one phone and restores its settings, however the agent ends."""
    try:
        agent.run()
    except HilnasError as error:
        log.error("agent_ended", device=agent.device.facts.name, reason=str(error))
    finally:
        agent.device.close()


def doctor(
    serial: Serials = [],  # noqa: B006
    connect: Addresses = [],  # noqa: B006
    adb: Adb = None,
    key: Key = None,
    threads: Annotated[int, typer.Option(help="Threads a measurement will use.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per phone.")] = False,
) -> None:
    """Check everything that would spoil a measurement on a phone. Exit code 1 if one cannot measure."""
    sound = True
    for address in named_phones(serial, connect):
        device = AndroidDevice(Phone(choose_transport(address, adb, key)), ready_bundle())
        device.connect()
        try:
            findings = examine(device, threads)
        finally:
            device.close()
        show(device, findings, as_json)
        sound &= not unfit_sentence(findings)
    raise typer.Exit(0 if sound else 1)


def show(device: AndroidDevice, findings: list[Finding], as_json: bool) -> None:
    if as_json:
        rows = [vars(finding) for finding in findings]
        print(
            json.dumps({"serial": device.phone.serial, "facts": device.facts.model_dump(mode="json"), "checks": rows})
        )
        return
    table = Table(title=f"{device.facts.name}: {device.facts.model}, {device.facts.details.get('soc', '')}")
    for heading in ("check", "outcome", "found", "step"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(finding.name, f"[{COLOURS[finding.outcome]}]{finding.outcome}[/]", finding.found, finding.step)
    console.print(table)


def clear(serial: Serials = [], connect: Addresses = [], adb: Adb = None, key: Key = None) -> None:  # noqa: B006
    """Put a phone's settings back and remove everything of hilnas from it."""
    for address in named_phones(serial, connect):
        phone = Phone(choose_transport(address, adb, key))
        phone.connect()
        phone.verb("restore")
        phone.shell(f"rm -rf {phone.root}", timeout_s=120.0)
        console.print(f"{address}: settings restored, {phone.root} removed")
        phone.transport.close()
