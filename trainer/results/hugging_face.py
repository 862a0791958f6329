"""A trained directory as stock Hugging Face: ``Lfm2ForCausalLM`` when the layout allows, else ours as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import HilnasError, InvalidConfig
from trainer.data.chat import START, STOP

# what trainers that mask by `return_assistant_tokens_mask` look for: the answer with the token that ends it
CHATML = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' }}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{{ '\n' }}"
    "{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Written:
    """``architecture`` is what loads it; ``note`` says why it is not Lfm2's, or is empty."""

    folder: Path
    architecture: str
    note: str = ""
    chat: bool = True


def write_hugging_face(model_dir: Path, out: Path) -> Written:
    """Fills ``out`` with weights, configuration and tokenizer; logits are those of ``model_dir``."""
    from search_space.modeling.families.lfm2 import to_lfm2  # brings torch
    from search_space.modeling.model import HilnasForCausalLM

    ours = HilnasForCausalLM.from_pretrained(directory(model_dir)).eval()
    tokenizer = tokenizer_of(model_dir)
    for old in (path for path in out.glob("*") if path.suffix in (".safetensors", ".json", ".jinja")):
        old.unlink()
    try:
        stock: Any = to_lfm2(ours)
        note = ""
    except HilnasError as error:
        stock, note = ours, f"{error}; transformers loads it after `import search_space.modeling.model`"
    _name_special_tokens(stock, tokenizer)
    stock.save_pretrained(out)
    if tokenizer is not None:
        tokenizer.save_pretrained(out)
    return Written(out, type(stock).__name__, note, speaks_chatml(tokenizer))


def directory(model_dir: Path) -> Path:
    """``model_dir`` if it holds a model of ours; else one sentence."""
    config = model_dir / "config.json"
    if not config.exists() or "arch" not in json.loads(config.read_text()):
        raise InvalidConfig(f"{model_dir} holds no model of ours; give the folder `model` that a stage left")
    return model_dir


def tokenizer_of(model_dir: Path) -> Any:
    """The directory's tokenizer, with a ChatML template if it has none and knows the tokens; None without one."""
    if not (model_dir / "tokenizer.json").exists():
        return None
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    if tokenizer.chat_template is None and speaks_chatml(tokenizer):
        tokenizer.chat_template = CHATML
    return tokenizer


def speaks_chatml(tokenizer: Any) -> bool:
    return tokenizer is not None and {START, STOP} <= tokenizer.get_vocab().keys()


def _name_special_tokens(model: Any, tokenizer: Any) -> None:
    """Lfm2's defaults are the ids of its own vocabulary; generation ends with a turn or a document."""
    end = tokenizer.eos_token_id if tokenizer is not None else None
    stop = tokenizer.get_vocab()[STOP] if speaks_chatml(tokenizer) else None
    ends = [index for index in (end, stop) if index is not None]
    for config in (model.config, model.generation_config):
        config.bos_token_id, config.pad_token_id = None, end
        config.eos_token_id = ends or None
