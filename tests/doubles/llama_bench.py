"""A program that answers as llama-bench does: JSON in its format for the tests that its arguments ask for."""

from __future__ import annotations

import sys
from pathlib import Path

SCRIPT = '''#!{python}
import json, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "--help" in sys.argv:
    print("usage: llama-bench [options]\\n  -p, --n-prompt <n>\\n  -d, --n-depth <n>")
    raise SystemExit
if {fails}:
    print("main: error: failed to load model", file=sys.stderr)
    raise SystemExit(1)
numbers = lambda name: [int(part) for part in arguments[name].split(",")]
repetitions, tests = int(arguments["-r"]), []
for depth in numbers("-d"):
    for prompt, generated in [*((p, 0) for p in numbers("-p")), *((0, n) for n in numbers("-n"))]:
        per_token = {ms} * (0.1 if prompt else 1.0) * (1 + depth / 10_000)
        samples = [int(1e6 * per_token * (prompt + generated) * (1 + 0.01 * i)) for i in range(repetitions)]
        mean = sum(samples) / len(samples)
        tests.append({{
            "build_commit": "b1afcab8", "build_number": 6400, "cpu_info": "example", "gpu_info": "", "backends": "CPU",
            "model_filename": arguments["-m"], "model_type": "qwen3 0.6B Q4_K - Medium", "model_size": 396705472,
            "model_n_params": 596049920, "n_batch": 2048, "n_ubatch": 512, "n_threads": int(arguments["-t"]),
            "cpu_mask": "0x0", "cpu_strict": False, "poll": 50, "type_k": "f16", "type_v": "f16", "n_gpu_layers": 0,
            "split_mode": "layer", "main_gpu": 0, "no_kv_offload": False, "flash_attn": False, "devices": "auto",
            "tensor_split": "0.00", "tensor_buft_overrides": "none", "use_mmap": True, "embeddings": False,
            "no_op_offload": 0, "n_prompt": prompt, "n_gen": generated, "n_depth": depth,
            "test_time": "2026-01-05T09:00:00Z", "avg_ns": int(mean), "stddev_ns": 1000,
            "avg_ts": 1e9 * (prompt + generated) / mean, "stddev_ts": 0.1, "samples_ns": samples,
            "samples_ts": [1e9 * (prompt + generated) / ns for ns in samples],
        }})
print(json.dumps(tests, indent=2))
'''


def fake_llama_bench(folder: Path, ms: float = 2.0, fails: bool = False) -> Path:
    """``ms``: of one generated token at no context."""
    path = folder / "llama-bench"
    path.write_text(SCRIPT.format(python=sys.executable, ms=ms, fails=fails))
    path.chmod(0o755)
    return path
