"""The exporter's own eager answer for a trained model, to compare what was trained with what is exported."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nas.export.backends import BACKENDS, DEFAULT_BACKEND
from nas.export.modules import deploy
from search_space.modeling.model import HilnasForCausalLM
from search_space.modeling.ops import StateTable, active
from trainer.quantization.modules import quantized

SCHEME = "8da4w"


@torch.no_grad()
def exported_logits(model: HilnasForCausalLM, prefixes: Sequence[Sequence[int]]) -> Tensor:
    """Logits [len(prefixes), V] behind each of them: export form, quantized by torchao, run in eager torch."""
    backend, arch = BACKENDS[DEFAULT_BACKEND], model.config.to_arch()
    form = backend.reference(backend.quantize(deploy(model, SCHEME), SCHEME))
    specs = [state for layer in arch.layers for state in layer.mixer.states(arch.d_model)]
    rows = []
    for ids in prefixes:
        table = StateTable()
        slots = torch.tensor([table.add(spec, len(ids)) for spec in specs] or [0])
        with active(table):
            rows.append(form(torch.tensor([list(ids)]), slots, torch.tensor([0]))[0, 0])
    return torch.stack(rows)


@torch.no_grad()
def differences(model: HilnasForCausalLM, ids: Sequence[int], count: int = 8) -> list[float]:
    """Of ``quantized(model)`` and its export form, the largest behind each of ``count`` beginnings of ``ids``, over the
    root mean square of the logits.

    Either reads a beginning as a whole. Sums in another order still differ in the last bit, and now and then that moves
    an activation by a step of int8: the median shows equal forms, the maximum of such a step.
    """
    model = model.cpu()  # type: ignore[call-arg]  # where export runs
    lengths = sorted({max(1, len(ids) * part // count) for part in range(1, count + 1)})
    converted = exported_logits(model, [ids[:length] for length in lengths])
    fake = quantized(model)
    ours = [fake(torch.tensor([list(ids[:length])]), use_cache=False).logits[0, -1] for length in lengths]
    largest = (torch.stack(ours) - converted).abs().amax(-1) / converted.pow(2).mean().sqrt()
    return [float(value) for value in largest]
