"""``make run``: coordinator, agent and a demo search on this machine, as separate processes and through the public
API."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from contracts.http import Refused, RestClient, Unreachable
from foundation.errors import HilnasError
from hilnas.cli.search import watch_study
from hilnas.cli.show import front_table, number, strip_of
from search_space.parents import RECORD

app = typer.Typer(help="A complete search on this machine.")
console = Console()
NAME = "demo"
START_TIMEOUT_S = 60.0
PARENT, SOURCE = "tiny", "tiny-2m"

SPEC: dict[str, Any] = {
    "name": NAME,
    "space": "around",
    "space_options": {"parent": PARENT, "windows": [128, 256], "kernels": [3], "shares": [0.5]},
    "objectives": [
        {"metric": "bits_per_byte", "budget": 2.0}, {"metric": "decode_ms@1024"}, {"metric": "memory_bytes@1024"},
    ],
    "sampler": "surrogate",
    "protocol": "quick",
    "max_trials": 44,
    "max_quality": 26,
    "queue_ahead": 3,
    "unjudged_ahead": 3,
    "threads": 1,  # a step takes 0.1 to 0.4 ms: a second thread costs more than it brings
    "quality": {"estimator": "inherited", "options": {"parent": PARENT, "lengths": [1024], "held_out_rows": 40,
                                                       "retrieval": False}},
    "confirm": 1,
}  # fmt: skip


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Where API and dashboard listen.")] = 8000,
    var: Annotated[Path, typer.Option(help="Everything the demo keeps.")] = Path("var/demo"),
    stay: Annotated[bool, typer.Option(help="Keep the dashboard open at the end.")] = True,
) -> None:
    """Search, show the front, export and check the knee winner, keep the dashboard open."""
    url = f"http://127.0.0.1:{port}"
    for ending in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal ends its children in order, as Ctrl-C does
        signal.signal(ending, signal.default_int_handler)
    refuse_second_run(url)
    started = time.monotonic()
    with running("coordinator", ["serve", "--port", str(port), "--var", str(var)], var) as coordinator:
        rest = RestClient(url)
        import_parent(var)
        wait_until_up(rest, coordinator, var / "coordinator.log")
        with running(
            "agent", ["agent", "host", "--url", url, "--home", str(var / "agent"), "--name", "this-machine"], var
        ):
            console.print(f"dashboard at [bold]{url}[/]  (logs in {var})")
            study = watched(rest, start_or_resume(rest))
            report(rest, study, var)
            console.print(f"[dim]{(time.monotonic() - started) / 60:.1f} minutes[/]")
            if study["state"] == "failed":
                raise HilnasError(study["reason"])
            if stay:
                console.print(f"dashboard stays open at [bold]{url}[/]; Ctrl-C ends it")
                with contextlib.suppress(KeyboardInterrupt):
                    signal.pause()


def watched(rest: RestClient, study_id: str) -> dict[str, Any]:
    """On Ctrl-C, prints what happens to the study before everything is shut down in order."""
    try:
        return watch_study(rest, study_id)
    except KeyboardInterrupt:
        console.print("stopping; nothing measured is lost, `make run` continues this study")
        raise


def import_parent(var: Path) -> None:
    """The trained model that the study searches around, once for each ``var``."""
    if (var / "parents" / PARENT / RECORD).exists():
        return
    command = [sys.executable, "-m", "hilnas", "parent", "import", PARENT, SOURCE]
    with (var / "parent.log").open("ab") as log:
        done = subprocess.run(command, stdout=log, stderr=log, env=environment(var), check=False)
    if done.returncode:
        lines = (var / "parent.log").read_text(errors="replace").strip().splitlines() or ["no message"]
        raise HilnasError(f"the demo's parent was not imported: {lines[-1].removeprefix('error: ')}")


def environment(var: Path) -> dict[str, str]:
    """Of every process of the demo: what is kept lies in ``var``."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "HILNAS_VAR": str(var)}


def refuse_second_run(url: str) -> None:
    try:
        RestClient(url, timeout_s=3.0).get("/health")
    except (Refused, Unreachable, ValueError):  # nobody, or somebody else answers there
        return
    raise HilnasError(
        f"a coordinator already runs at {url}: open it in a browser, watch it with"
        f" `hilnas search status --watch STUDY`, or choose another --port; nothing was changed"
    )


def start_or_resume(rest: RestClient) -> str:
    """Continues the newest unfinished demo study; otherwise starts a new one with the next seed."""
    studies = [study for study in rest.get("/studies") if study["name"] == NAME]
    for study in studies:
        if study["state"] == "running":
            console.print(f"continuing study {study['id']}")
            return str(study["id"])
        if study["state"] in ("stopped", "failed"):
            with contextlib.suppress(Refused):
                rest.post(f"/studies/{study['id']}/resume")
                console.print(f"resumed study {study['id']}")
                return str(study["id"])
    return str(rest.post("/studies", {**SPEC, "seed": len(studies)})["id"])


def report(rest: RestClient, study: dict[str, Any], var: Path) -> None:
    """Prints the front, and the winner's measurement on the device."""
    front = rest.get(f"/studies/{study['id']}/front")
    console.print(study["reason"])
    if not front["members"]:
        return
    console.print(front_table(front))
    knee = next(member for member in front["members"] if member["knee"])
    digest = knee["artifacts"].get("one_piece")
    if digest is None:
        return
    path = var / f"winner-{knee['number']}.pte"
    rest.download(f"/artifacts/{digest}", path)
    size = f"{path.stat().st_size / 2**20:.1f} MiB"
    console.print("knee winner ", strip_of(knee["arch"]), f" as one ExecuTorch file: [bold]{path}[/] ({size})")
    trial = rest.get(f"/trials/{knee['trial_id']}")
    if quality := trial.get("program_quality"):
        console.print(
            f"as quantized it reads held-out text at {number(quality['metric'], quality['score'])}"
            f" (judged before: {number(quality['metric'], trial['quality']['score'])})"
        )
    for device_id, row in trial["confirmed"].items():
        console.print(f"checked and measured on {device_id}: verdict [bold]{row['verdict']}[/] {row['reason']}")
        for key in ("decode_ms@1024", "prefill_ms@256"):
            if key in row["metrics"] and key in row["beside"]:
                one_piece, composed = row["metrics"][key]["median"], row["beside"][key]["median"]
                console.print(
                    f"  {key}: one piece {number(key, one_piece)}, composed {number(key, composed)}"
                    f" ({composed / one_piece - 1:+.1%})"
                )


@contextlib.contextmanager
def running(name: str, arguments: list[str], var: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a ``hilnas`` command as a child process, which gets SIGTERM when the block ends, however it ends."""
    var.mkdir(parents=True, exist_ok=True)
    with (var / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "hilnas", *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True, env=environment(var),
        )  # fmt: skip
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def wait_until_up(rest: RestClient, child: subprocess.Popen[bytes], log: Path) -> None:
    """If the coordinator exits, its last log line is the reason."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
            raise HilnasError(f"the coordinator did not start: {lines[-1].removeprefix('error: ')}")
        try:
            rest.get("/health")
        except (Unreachable, Refused, ValueError):  # not up yet, or another program answers on this port
            time.sleep(0.2)
        else:
            return
    raise HilnasError(f"the coordinator did not start within {START_TIMEOUT_S:.0f} s; see {log}")
