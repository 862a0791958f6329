"""How another process requests a fault from a running virtual phone: a file in ``control/``, answered by a second
one."""

from __future__ import annotations

import inspect
import json
import time
import uuid
from pathlib import Path
from typing import Any

from foundation.errors import HilnasError, InvalidConfig
from virtual_phone.system import write

FAULTS = (
    "cut", "cut_now", "reboot", "unauthorized", "full_storage", "hot", "throttle", "kill_runner", "wrong_clock",
    "no_fixed_mode", "battery",
)  # fmt: skip
ANSWER_S = 10.0


def ask(state: Path, fault: str, arguments: dict[str, Any]) -> Any:
    if fault not in FAULTS:
        raise InvalidConfig(f"unknown fault {fault!r}; known faults: {', '.join(FAULTS)}")
    request = state.resolve() / "control" / f"{uuid.uuid4().hex}.json"
    write(request, json.dumps({"fault": fault, "arguments": arguments}))
    reply, end = request.with_suffix(".done"), time.monotonic() + ANSWER_S
    while not reply.exists():
        if time.monotonic() > end:
            request.unlink(missing_ok=True)
            raise InvalidConfig(f"no virtual phone runs in {state}; `hilnas virtual-phone --state {state}` starts one")
        time.sleep(0.02)
    answer = json.loads(reply.read_text())
    reply.unlink()
    if "error" in answer:
        raise HilnasError(f"{fault}: {answer['error']}")
    return answer["result"]


def answer(state: Path, phone: object) -> None:
    """Runs the requested faults: methods of the phone, by the name of their fault."""
    for request in sorted((state / "control").glob("[!.]*.json")):
        wish = json.loads(request.read_text())
        request.unlink()
        try:
            method = getattr(phone, wish["fault"] if wish["fault"] in FAULTS else "")
            inspect.signature(method).bind(**wish["arguments"])
            reply = {"result": method(**wish["arguments"])}
        except (AttributeError, TypeError, HilnasError) as error:
            reply = {"error": str(error)}
        write(request.with_suffix(".done"), json.dumps(reply))
