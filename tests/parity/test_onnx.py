"""onnxruntime gives the logits of eager torch, for any length."""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from nas.export.onnx import export_onnx
from search_space.modeling.model import build_model
from search_space.presets import debug_size, preset


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lfm2_350m", "gemma3_1b"])
def test_onnx_equals_torch(name: str, tmp_path) -> None:
    model = build_model(debug_size(preset(name)), seed=0).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for length in (3, 50):
        ids = torch.randint(0, 512, (1, length), generator=torch.Generator().manual_seed(length))
        with torch.no_grad():
            expected = model(ids).logits.numpy()
        found = session.run(None, {"input_ids": ids.numpy()})[0]
        assert np.abs(found - expected).max() < 1e-5
