"""A trained directory as GGUF of llama.cpp's architecture ``lfm2``, where the layout is one that it can load.

llama.cpp decides per layer by ``head_count_kv`` (0 is a convolution); kernel, feed-forward width, heads and window are
single numbers of the whole file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from numpy.typing import NDArray

from foundation.errors import InvalidConfig
from foundation.files import atomic_path
from search_space.arch import ArchConfig
from search_space.mixers import GatedShortConv, Gqa
from trainer.data.chat import STOP
from trainer.results.hugging_face import directory, speaks_chatml, tokenizer_of

ARCHITECTURE = "lfm2"
# file type -> type of the matrices, type of the embedding (llama.cpp keeps it finer than 4 bits too)
TYPES = {
    "F32": (GGMLQuantizationType.F32, GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "F16": (GGMLQuantizationType.F16, GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "Q8_0": (GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "Q4_0": (GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q4_0),
}
NAMES = {  # ours -> llama.cpp's, within a layer
    "mixer.in_proj": "shortconv.in_proj", "mixer.conv_weight": "shortconv.conv", "mixer.out_proj": "shortconv.out_proj",
    "mixer.q_proj": "attn_q", "mixer.k_proj": "attn_k", "mixer.v_proj": "attn_v", "mixer.o_proj": "attn_output",
    "mixer.q_norm": "attn_q_norm", "mixer.k_norm": "attn_k_norm", "mixer_norm": "attn_norm", "ffn_norm": "ffn_norm",
    "ffn.w1": "ffn_gate", "ffn.w2": "ffn_down", "ffn.w3": "ffn_up",
}  # fmt: skip
ENDS = {"model.embed_tokens": "token_embd", "model.norm": "token_embd_norm", "lm_head": "output"}


def write_gguf(model_dir: Path, out: Path, kind: str = "F16", name: str = "") -> Path:
    """Raises InvalidConfig with what in the layout or the tokenizer llama.cpp cannot load."""
    if kind not in TYPES:
        raise InvalidConfig(f"unknown GGUF type {kind!r}; known: {', '.join(TYPES)}")
    from search_space.modeling.model import HilnasForCausalLM  # brings torch

    model = HilnasForCausalLM.from_pretrained(directory(model_dir))
    arch = model.config.to_arch()
    loadable(arch)
    with atomic_path(out) as partial:
        writer = GGUFWriter(partial, ARCHITECTURE)
        writer.add_name(name or model_dir.name)
        _write_sizes(writer, arch, model.config.max_position_embeddings)
        _write_tokenizer(writer, model_dir, arch.vocab_size)
        matrices, embedding, file_type = TYPES[kind]
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, value in model.state_dict().items():
            if key == "lm_head.weight" and arch.tie_embeddings:
                continue
            values = np.ascontiguousarray(value.detach().float().numpy())
            _add_tensor(writer, tensor_name(key), values, embedding if _is_end(key) else matrices)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return out


def loadable(arch: ArchConfig) -> None:
    """Raises InvalidConfig with the first thing that llama.cpp's ``lfm2`` cannot express."""
    conv = [layer.mixer for layer in arch.layers if isinstance(layer.mixer, GatedShortConv)]
    attention = [layer.mixer for layer in arch.layers if isinstance(layer.mixer, Gqa)]
    others = {layer.mixer.kind for layer in arch.layers} - {mixer.kind for mixer in (*conv, *attention)}
    windows = {mixer.attention_window for mixer in attention}
    for found, sentence in (
        (others, f"it has no operator {', '.join(sorted(others))}"),
        # 0.3.36 of llama-cpp-python ends by an assertion at the first token of either
        (not attention or not conv, "it needs a layer of attention and one of convolution"),
        (len({mixer.kernel for mixer in conv}) > 1, "it has one convolution kernel for all layers"),
        (len({layer.ffn for layer in arch.layers}) > 1, "it has one feed-forward width for all layers"),
        (any(layer.ffn is None or layer.ffn.activation != "silu" for layer in arch.layers),
         "every layer needs a feed-forward with SiLU"),
        (len({(mixer.num_heads, mixer.head_dim) for mixer in attention}) > 1,
         "it has one number of heads and one head size for all layers (key-value heads may differ)"),
        (any(mixer.num_heads * mixer.head_dim != arch.d_model for mixer in attention), "its heads must fill d_model"),
        (any(mixer.gate or not mixer.qk_norm for mixer in attention), "its attention has QK norm and no gate"),
        (len(_thetas(arch, attention)) > 1, "it has one rotary base for all layers"),
        (len(windows) > 1, "it has one sliding window in all attention layers or in none"),
        (arch.yarn and windows != {0}, "it stretches positions by YaRN only without a sliding window"),
        (arch.llama3, "it does not stretch positions as Llama 3 does"),
        (arch.sandwich_norm, "it has no sandwich norms"),
        (arch.embedding_multiplier != 1.0, "it does not scale embeddings"),
    ):  # fmt: skip
        if found:
            raise InvalidConfig(f"llama.cpp cannot load this layout as {ARCHITECTURE}: {sentence}")


def tensor_name(ours: str) -> str:
    """``model.layers.3.mixer.q_proj.weight`` -> ``blk.3.attn_q.weight``."""
    stem = ours.removesuffix(".weight")
    if stem in ENDS:
        return f"{ENDS[stem]}.weight"
    _, _, index, inner = stem.split(".", 3)
    return f"blk.{index}.{NAMES[inner]}.weight"


def _is_end(key: str) -> bool:
    return key in ("model.embed_tokens.weight", "lm_head.weight")


def _thetas(arch: ArchConfig, attention: list[Gqa]) -> set[float]:
    return {mixer.rope_theta or arch.rope_theta for mixer in attention}


def _write_sizes(writer: GGUFWriter, arch: ArchConfig, context: int) -> None:
    attention = [layer.mixer for layer in arch.layers if isinstance(layer.mixer, Gqa)]
    kernels = [layer.mixer.kernel for layer in arch.layers if isinstance(layer.mixer, GatedShortConv)]
    ffn = arch.layers[0].ffn
    assert ffn is not None
    writer.add_context_length(context)
    writer.add_embedding_length(arch.d_model)
    writer.add_block_count(arch.depth)
    writer.add_feed_forward_length(ffn.width)
    writer.add_head_count(attention[0].num_heads)
    writer.add_head_count_kv([layer.mixer.num_kv_heads if isinstance(layer.mixer, Gqa) else 0 for layer in arch.layers])
    writer.add_layer_norm_rms_eps(arch.norm_eps)
    writer.add_shortconv_l_cache(kernels[0])
    writer.add_rope_freq_base(_thetas(arch, attention).pop())
    writer.add_vocab_size(arch.vocab_size)
    if window := attention[0].attention_window:
        writer.add_sliding_window(window)
    if arch.yarn:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(arch.yarn.factor)
        writer.add_rope_scaling_orig_ctx_len(arch.yarn.original_length)
        writer.add_rope_scaling_yarn_beta_fast(arch.yarn.beta_fast)
        writer.add_rope_scaling_yarn_beta_slow(arch.yarn.beta_slow)


def _add_tensor(writer: GGUFWriter, name: str, values: NDArray[np.float32], kind: GGMLQuantizationType) -> None:
    """Vectors and convolution kernels stay in float32, rows that no block divides in half precision."""
    if values.ndim == 1 or "shortconv.conv" in name:
        kind = GGMLQuantizationType.F32
    elif values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = GGMLQuantizationType.F16
    if kind is GGMLQuantizationType.F32:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def _write_tokenizer(writer: GGUFWriter, model_dir: Path, vocab_size: int) -> None:
    tokenizer = tokenizer_of(model_dir)
    if tokenizer is None:
        writer.add_tokenizer_model("no_vocab")
        return
    described = json.loads((model_dir / "tokenizer.json").read_text())
    vocab, special = _vocabulary(described, vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_of(described))
    writer.add_token_list(vocab)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in vocab])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]]
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    end = tokenizer.eos_token_id
    writer.add_bos_token_id(end)  # never added; llama.cpp's default is the id 11
    writer.add_pad_token_id(end)
    if speaks_chatml(tokenizer):
        writer.add_eos_token_id(tokenizer.get_vocab()[STOP])
        writer.add_eot_token_id(tokenizer.get_vocab()[STOP])
    else:
        writer.add_eos_token_id(end)
    if tokenizer.chat_template:
        writer.add_chat_template(_plain(tokenizer.chat_template))


def _vocabulary(described: dict[str, Any], vocab_size: int) -> tuple[list[str], set[str]]:
    """Tokens by id, and which of them are special; ids that no token has get a name that is in no text."""
    by_id = {index: token for token, index in described["model"]["vocab"].items()}
    by_id |= {entry["id"]: entry["content"] for entry in described["added_tokens"]}
    special = {entry["content"] for entry in described["added_tokens"] if entry["special"]}
    if max(by_id) >= vocab_size:
        raise InvalidConfig(f"the tokenizer has ids up to {max(by_id)}, the model only {vocab_size} logits")
    unused = {index: f"[unused {index}]" for index in range(vocab_size) if index not in by_id}
    return [(by_id | unused)[index] for index in range(vocab_size)], special | set(unused.values())


def pre_tokenizer_of(described: dict[str, Any]) -> str:
    """llama.cpp's name for how text is cut before merging. Raises InvalidConfig for what it has no name for here."""
    steps = described["pre_tokenizer"] or {"type": "none"}
    steps = steps.get("pretokenizers", [steps])
    kinds = [step["type"] for step in steps]
    plain = described["model"]["type"] == "BPE" and described["normalizer"] is None
    if plain and kinds and kinds[-1] == "ByteLevel" and steps[-1].get("use_regex", True):
        if kinds == ["ByteLevel"]:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
            return "smollm"
    raise InvalidConfig(
        f"the tokenizer cuts text by {', '.join(kinds)}; GGUF is written for byte-level BPE and single digits"
    )


def _plain(template: str) -> str:
    """Without the markers of trainers, which llama.cpp's template engine does not know."""
    return template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
