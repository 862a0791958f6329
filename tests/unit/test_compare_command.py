"""``hilnas compare`` as its user meets it: what may be named, what is refused and how, tables at 80 columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from contracts.comparison import Comparison, Sustained
from device_agents.devices.android.discovery import address_of
from foundation.errors import DeviceLost, HilnasError, InvalidConfig
from hilnas.cli.compare import app, posted, target_of
from hilnas.comparison.earlier import joined, require_alike
from hilnas.comparison.models import OWN, named_model, named_models
from hilnas.comparison.pairs import against, pairs_of
from hilnas.comparison.report import probability, short
from hilnas.comparison.session import Request
from hilnas.comparison.shapes import shape_of
from hilnas.comparison.show import markdown, show
from search_space.mixers import SlidingWindow
from search_space.presets import debug_size, preset
from tests.doubles.comparison import made_up, row

GEMMA = {
    "model_type": "gemma3_text", "hidden_size": 1152, "vocab_size": 262_144, "num_hidden_layers": 26,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 6912,
    "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 512, "rope_theta": 1_000_000,
    "rope_local_base_freq": 10_000, "rms_norm_eps": 1e-6,
}  # fmt: skip


def directory(folder: Path, config: dict[str, Any], weights: bool = False) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if weights:
        (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(debug_size(preset("lfm2_350m")).to_dict()))
    return path


# --- what may be named ----------------------------------------------------------------------------------------------


def test_presets_and_files(tiny: Path) -> None:
    first, second = named_models(["gemma3_1b", str(tiny)])
    assert (first.name, first.folder, second.name) == ("gemma3_1b", None, "tiny")
    assert second.arch == debug_size(preset("lfm2_350m"))


def test_two_files_of_one_name_keep_their_paths(tmp_path: Path, tiny: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "tiny.json").write_text(tiny.read_text())
    assert [one.name for one in named_models([str(tiny), f"{other}/tiny.json"])] == [str(tiny), f"{other}/tiny.json"]


def test_a_family_that_is_imported_brings_its_weights(tmp_path: Path, small_teacher: str) -> None:
    found = named_model(small_teacher)
    assert found.weights == OWN and found.folder == Path(small_teacher) and found.arch.d_model == 32
    config = json.loads((Path(small_teacher) / "config.json").read_text())
    bare = named_model(str(directory(tmp_path / "bare", config)))
    assert bare.folder is None and "the directory holds none" in bare.weights and bare.arch == found.arch


def test_a_field_that_the_import_refuses_leaves_the_shapes_and_the_reason(tmp_path: Path, small_teacher: str) -> None:
    config = json.loads((Path(small_teacher) / "config.json").read_text()) | {"attention_bias": True}
    found = named_model(str(directory(tmp_path / "biased", config, weights=True)))
    assert found.folder is None and "attention_bias=True" in found.weights and "left out" in found.weights
    assert found.arch.layers == named_model(small_teacher).arch.layers


@pytest.mark.parametrize("config", [GEMMA, {"model_type": "gemma3", "text_config": GEMMA}])
def test_gemma_3_is_its_preset(config: dict[str, Any]) -> None:
    arch, left_out = shape_of(config)
    assert arch == preset("gemma3_1b") and len(left_out) == 1


def test_windows_and_biases_of_other_families() -> None:
    plain = {**GEMMA, "model_type": "mistral", "hidden_act": "silu", "hidden_activation": None}
    mixer = shape_of(plain)[0].layers[0].mixer
    assert isinstance(mixer, SlidingWindow) and mixer.window == 512
    arch, left_out = shape_of({**plain, "model_type": "qwen2", "use_sliding_window": False})
    assert not isinstance(arch.layers[0].mixer, SlidingWindow) and "biases" in left_out[0]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "mamba"}, "the shapes of model_type 'mamba' cannot be read; known: gemma3_text"),
        ({**GEMMA, "hidden_activation": "relu2"}, "the activation 'relu2' cannot be expressed"),
        ({"model_type": "mistral", "hidden_size": 64}, "config.json of a mistral has no num_attention_heads"),
        ({"no": 1}, "names no model_type"),
    ],
)
def test_a_directory_that_cannot_be_expressed(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidConfig, match=words.replace(".", r"\.")):
        named_model(str(directory(tmp_path / "model", config)))


# --- pairs ----------------------------------------------------------------------------------------------------------


def test_times_that_cannot_be_compared_have_no_probability() -> None:
    """As in a result from elsewhere: no time at all, or times whose ratio says nothing."""
    zero = row("zero", 1.0, samples={"decode_ms@128": [[0.0]] * 4})
    wild = row("wild", 1.0, samples={"decode_ms@128": [[1e-9], [1e15], [1e-9], [1e15]]})
    assert pairs_of([zero, row("a", 5.0)], ["decode_ms@128"]) == []
    (pair,) = pairs_of([wild, row("a", 5.0)], ["decode_ms@128"])
    assert 0 < pair.low < pair.ratio < pair.high <= 1e12 * 1.001


# --- what is refused ------------------------------------------------------------------------------------------------


def refused(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code, "it was not refused"
    assert isinstance(done.exception, (HilnasError, SystemExit)), done.exception
    return str(done.exception) if isinstance(done.exception, HilnasError) else done.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name two models or more"),
        (["smollm2_135m"], "a comparison needs two models, got smollm2_135m alone; `hilnas measure` measures one"),
        (["smollm2_135m", "smollm2_135m"], "smollm2_135m is given twice"),
        (["smollm2_135m", "lfm2"], "'lfm2' is neither a preset (lfm2_350m"),
        (["smollm2_135m", "model.gguf"], "give it with --gguf"),
        (["smollm2_135m", "lfm2_350m", "--baseline", "x"], "--baseline x is not one of the compared models"),
        (["smollm2_135m", "lfm2_350m", "--quantization", "4bit"], "4bit"),
        (["smollm2_135m", "lfm2_350m", "--gguf", "a.gguf"], "also give --llama-bench PATH"),
        (["smollm2_135m", "lfm2_350m", "--llama-bench", "x"], "also give --gguf FILE"),
        (["smollm2_135m", "lfm2_350m", "--on", "s24"], "--on takes host or phone:NAME"),
        (["smollm2_135m", "lfm2_350m", "--on", "phone:s24"], "no attached phone is 's24'; attached: none"),
        (["smollm2_135m", "lfm2_350m", "--markdown", "/none/x.md"], "there is no folder /none"),
        (["smollm2_135m", "lfm2_350m", "--with", "/none.json"], "there is no file /none.json"),
        (["smollm2_135m", "lfm2_350m", "--publish", "--url", "http://127.0.0.1:9"], "no coordinator answers"),
    ],
)
def test_a_mistake_is_one_sentence_before_any_work(
    words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilnas.cli.compare.measured", lambda *_: pytest.fail("it began to work"))
    assert sentence in refused(*words)


def test_a_file_that_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert "is not a result of `hilnas compare`: title" in refused("smollm2_135m", "--with", str(path))


# --- phones by name -------------------------------------------------------------------------------------------------


def attached(usb: Path, *serials: str) -> Path:
    for number, serial in enumerate(serials):
        device = usb / f"1-{number}"
        interface = device / f"1-{number}:1.0"
        interface.mkdir(parents=True)
        (device / "serial").write_text(serial)
        for name, value in (("bInterfaceClass", "ff"), ("bInterfaceSubClass", "42"), ("bInterfaceProtocol", "01")):
            (interface / name).write_text(value)
    return usb


def test_a_phone_is_found_by_serial_address_model_and_short_name(tmp_path: Path) -> None:
    usb = attached(tmp_path, "R1", "R2")
    models = {"R1": "SM-S921B", "R2": "SM-S931B"}
    find = lambda name: address_of(name, usb, models.__getitem__)  # noqa: E731
    assert [find(name) for name in ("R2", "10.0.0.2:5555", "SM-S921B", "s24", "S25")] == [
        "R2", "10.0.0.2:5555", "R1", "R1", "R2"
    ]  # fmt: skip
    with pytest.raises(InvalidConfig, match=r"no attached phone is 's24ultra'; attached: R1 \(SM-S921B\), R2"):
        find("s24ultra")
    models["R2"] = "SM-S921B"
    with pytest.raises(InvalidConfig, match="2 phones are s24: give the serial number"):
        find("s24")


def test_a_phone_that_does_not_answer_is_named(tmp_path: Path) -> None:
    def gone(address: str) -> str:
        raise DeviceLost("unauthorized")

    with pytest.raises(InvalidConfig, match="R1 .*unauthorized"):
        address_of("s24", attached(tmp_path, "R1"), gone)


def test_the_host_is_the_host() -> None:
    assert target_of("host") == "host" and target_of("phone:127.0.0.1:5555") == "127.0.0.1:5555"


# --- pairs and earlier results --------------------------------------------------------------------------------------


def test_only_valid_rows_of_one_session_are_compared() -> None:
    pairs = made_up().pairs
    assert {(pair.first, pair.second) for pair in pairs} == {("fast", "slow")} and len(pairs) == 2
    assert all(pair.probability > 0.999 and pair.num_rounds == 4 for pair in pairs)
    assert pairs_of([row("a", 1.0), row("b", 2.0, session="other")], ["decode_ms@128"]) == []
    apart = [row("a", 1.0), row("b", 2.0, rounds=[4, 5, 6, 7])]
    assert pairs_of(apart, ["decode_ms@128"]) == [], "no round in which both ran"


def test_a_pair_turns_around() -> None:
    there, back = (against(made_up().pairs, *names, "decode_ms@128") for names in (("fast", "slow"), ("slow", "fast")))
    assert there is not None and back is not None
    assert there.ratio == pytest.approx(1 / back.ratio) and there.probability == pytest.approx(1 - back.probability)
    assert back.low <= back.ratio <= back.high


def change_device(result: Comparison, **changes: Any) -> Comparison:
    return result.model_copy(update={"device": result.device.model_copy(update=changes)})


def change_settings(result: Comparison, **changes: Any) -> Comparison:
    return result.model_copy(update={"settings": result.settings.model_copy(update=changes)})


def test_another_device_runner_or_setting_is_refused() -> None:
    here, path = made_up(), Path("earlier.json")
    require_alike(here, path, here.device, here.settings)
    for earlier, words in (
        (change_device(here, model="SM-S921B"), "another device .*times of two devices do not compare"),
        (change_device(here, runner_version="old"), "by runner 'old'.*measure its models again"),
        (change_settings(here, threads=4), "--threads 4, .* 2"),
        (change_settings(here, contexts=[9]), "--context 9, .* 128"),
    ):
        with pytest.raises(InvalidConfig, match=words):
            require_alike(earlier, path, here.device, here.settings)


def test_earlier_results_are_shown_again_and_side_by_side(tmp_path: Path) -> None:
    other = made_up(rows=[row("third", 6.0, session="b")], pairs=[])
    both = joined([(Path("a"), made_up()), (Path("b"), other)], None)
    assert [one.name for one in both.rows] == ["fast", "slow", "busy", "third"] and both.pairs == made_up().pairs
    assert "different sessions stand beside each other without probabilities" in " ".join(text_of(both).split())
    with pytest.raises(InvalidConfig, match="two rows would be called fast"):
        joined([(Path("a"), made_up()), (Path("b"), made_up())], None)
    path = tmp_path / "kept.json"
    path.write_text(made_up().model_dump_json())
    done = CliRunner().invoke(app, ["--with", str(path), "--json"])
    assert Comparison.model_validate_json(done.stdout.splitlines()[0]) == made_up()


# --- what is printed ------------------------------------------------------------------------------------------------


def text_of(result: Comparison, width: int = 80) -> str:
    out = StringIO()
    show(result, Console(file=out, width=width))
    return out.getvalue()


def test_the_table_fits_80_columns() -> None:
    sustained = [Sustained(name="fast", metric="decode_ms@128", seconds=300, window_s=60, first_ms=5, last_ms=9,
                           num_tokens=9, note="the cap of policy 4 fell"),
                 Sustained(name="slow", metric="decode_ms@128", seconds=300, window_s=60, first_ms=8, last_ms=8.1,
                           num_tokens=9)]  # fmt: skip
    text = text_of(made_up(baseline="slow", sustained=sustained))
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    for words in (
        "fast before slow > 0.999 1.60", "busy: drifted, the canary moved; in no probability", "over slow",
        "fast was faster than slow at the beginning and slower at the end", "Prompt of 64 tokens",
        f"fingerprint {made_up().device.fingerprint}", "weights random, of its shapes: fast, slow, busy",
    ):  # fmt: skip
        assert words in flat, text


def test_another_engine_is_said_with_its_quantization() -> None:
    llama = row("qwen3", 6.0, engine="llama.cpp build 6400 (b1afcab8), cache f16", quantization="Q4_K - Medium")
    text = " ".join(text_of(made_up(rows=[row("fast", 5.0), llama], pairs=[])).split())
    assert "qwen3: another engine, llama.cpp build 6400 (b1afcab8), cache f16, Q4_K - Medium" in text
    assert "quantizations differ: 8da4w, Q4_K - Medium" in text


def test_markdown_has_every_table_and_the_command() -> None:
    text = markdown(made_up(command="hilnas compare a|b"))
    assert "| fast before slow | > 0.999 |" in text and "    hilnas compare a|b" in text
    bars = {line.count("|") for line in text.splitlines() if line.startswith("| fast")}
    assert bars == {8, 5, 6}


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.50"), (0.98, "0.98"), (0.9954, "0.995"), (0.99999, "> 0.999"), (1.0, "> 0.999")]
)
def test_no_probability_is_one(value: float, text: str) -> None:
    assert probability(value) == text


def test_numbers_have_no_exponent() -> None:
    assert [short(x) for x in (0.0, 1234.4, 99.94, 12.345, 0.01234)] == ["0", "1234", "99.9", "12.3", "0.0123"]


def test_the_command_repeats_the_measuring() -> None:
    request = Request(
        models=(), texts=("a b.json", "lfm2_350m"), on="phone:s24", target="R1", prompts=(64, 512), contexts=(4096,),
        rounds=7, threads=4, quantization="8da4w", cache_dtype="fp16", baseline=None, sustained_minutes=0,
        llama_bench=None, ggufs=(), earlier=(),
    )  # fmt: skip
    assert request.command == (
        "hilnas compare 'a b.json' lfm2_350m --on phone:s24 --prompt 64 --prompt 512 --context 4096 --rounds 7"
        " --threads 4 --quantization 8da4w --cache-dtype fp16"
    )
    assert replace(request, sustained_minutes=2.5).command.endswith("--sustained 2.5")


def test_published_results_have_an_address() -> None:
    class Coordinator:
        url = "http://desk:8000"
        post: Callable[..., dict[str, str]] = staticmethod(lambda path, body: {"id": "comparison-1"})

    assert posted(Coordinator(), made_up()) == "http://desk:8000/comparisons/comparison-1"  # type: ignore[arg-type]
