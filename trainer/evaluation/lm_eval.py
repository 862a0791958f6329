"""Any task of lm-eval whose data lies beside its yaml file, on a student of ours through lm-eval's own HFLM.

lm-eval ships task descriptions without data; ``data_files`` may be relative to the yaml file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from trainer.evaluation.subject import Subject
from trainer.evaluation.values import Better, Metric, Z, score


def check_task(file: str) -> None:
    """Raises InvalidConfig without the package or the file."""
    if find_spec("lm_eval") is None:
        raise InvalidConfig("lm-eval is not installed; `.venv/bin/pip install -e '.[benchmarks]'` brings it")
    if not Path(file).is_file():
        raise InvalidConfig(f"lm_eval takes the yaml file of a task; {file!r} does not exist")


def lm_eval_scores(subject: Subject, file: str) -> Iterator[Metric]:
    """``count`` documents of the task; one metric for each of its own."""
    check_task(file)
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    config = _config(Path(file))
    name, settings = config["task"], subject.settings
    wrapped = HFLM(
        pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=8, max_length=settings.max_prompt,
        device=str(subject.device),
    )  # fmt: skip
    found = simple_evaluate(
        model=wrapped, tasks=[config], limit=settings.count, bootstrap_iters=0, random_seed=settings.seed
    )
    results, samples = found["results"][name], found["samples"][name]
    for key, value in results.items():
        metric, _, kept = key.partition(",")
        if kept and not metric.endswith("_stderr") and isinstance(value, float):
            better: Better = "high" if found["higher_is_better"][name].get(metric, True) else "low"
            stderr = results.get(f"{metric}_stderr,{kept}")
            yield _metric(f"lm_eval/{name}/{metric}", value, stderr, [row.get(metric) for row in samples], better)


def _metric(name: str, value: float, stderr: Any, rows: Sequence[Any], better: Better) -> Metric:
    """Wilson's interval where rows are right or wrong, else lm-eval's standard error, else none."""
    if better == "high" and all(row in (0.0, 1.0) for row in rows):
        return score(name, [float(row) for row in rows])
    half = Z * stderr if isinstance(stderr, float) else 0.0
    note = "" if half else "lm-eval gives no interval for this metric"
    return Metric(name, value, value - half, value + half, len(rows), better, note)


def _config(file: Path) -> dict[str, Any]:
    import yaml

    try:
        config = dict(yaml.safe_load(file.read_text()))
        data = config["dataset_kwargs"]["data_files"]
        config["dataset_kwargs"]["data_files"] = {split: str(file.parent / path) for split, path in data.items()}
        config["task"] = str(config["task"])
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        raise InvalidConfig(
            f"{file} is no task with dataset_kwargs.data_files by split; lm-eval's docs show one"
        ) from None
    return config
