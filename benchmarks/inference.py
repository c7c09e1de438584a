"""Measures the forward pass of teacher and student with a classification head.

The peers are transformers and ONNX Runtime with the same weights:

    eager, sdpa     transformers in PyTorch, with its own attention and with that of PyTorch
    compiled        sdpa, compiled with torch.compile
    onnx            ONNX Runtime, with a model exported from PyTorch

A second table follows the protocol of table 3 in Sanh et al. (2019): one pass over the dev split of STS-B, one pair at
a time and without padding. This package pads to the next multiple of 8, so that few programs are compiled.
"""

import functools
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from turns import Side, Table, Turn, seconds, spread, take_turns

SHAPES = ((1, 128), (8, 128), (1, 16), (1, 512), (32, 128))
MODELS = {"teacher": "bert", "student": "distilbert"}
VOCAB_SIZE = 30_522


def make_models(folder: pathlib.Path, *, hidden: int = 768, layers: int = 12) -> None:
    """Writes a BERT and a DistilBERT with half its layers, both with random weights."""
    from distilbert_jax.hub import smoke
    from distilbert_jax.models.transformer import TransformerConfig

    tokenizer = smoke.make_tiny_tokenizer()
    tokenizer.backend.add_tokens([f"word{i}" for i in range(tokenizer.vocab_size, VOCAB_SIZE)])
    for seed, (name, family) in enumerate(MODELS.items()):
        config = TransformerConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=hidden,
            mlp_size=4 * hidden,
            num_layers=layers if family == "bert" else layers // 2,
            num_token_types=2 if family == "bert" else 0,
        )
        smoke.save_tiny_model(
            folder / name,
            config,
            tokenizer=tokenizer,
            family=family,
            seed=seed,
            head="sequence_classification",
        )


def make_ids(rows: int, length: int) -> Any:
    """Returns random token ids [rows, length], which are the same for every side."""
    import numpy as np

    return np.random.default_rng(length).integers(0, VOCAB_SIZE, (rows, length))


def make_turn(run: Callable[[Any], Any], passes: Sequence[Sequence[tuple[int, int]]]) -> Turn:
    """Returns a turn that measures the seconds of each pass; a pass is a list of input shapes (rows, length)."""
    inputs = [[make_ids(*shape) for shape in one] for one in passes]
    return lambda: {str(i): seconds(lambda one=one: [run(ids) for ids in one]) for i, one in enumerate(inputs)}


def ours(folder: str, passes: Any, *, bucket: int = 1) -> Turn:
    """Returns a turn with this package. Rows are padded to a multiple of `bucket` tokens."""
    import jax
    import jax.numpy as jnp

    from distilbert_jax.config.experiment import Pretrained
    from distilbert_jax.hub.load import load_pretrained
    from distilbert_jax.types import Batch

    model = load_pretrained(Pretrained(folder), head="sequence_classification")
    params = jax.device_put(model.params)
    apply: Any = model.module.apply

    @jax.jit
    def logits(params: Any, ids: Any, length: Any) -> Any:
        b, t = ids.shape
        positions = jnp.broadcast_to(jnp.arange(t), (b, t))
        first, one = jnp.zeros((b, 1), jnp.int32), jnp.ones((b, 1))
        batch = Batch(
            row_ids=first[:, 0],
            epochs=first[:, 0],
            tokens=ids,
            segment_ids=(positions < length).astype(jnp.int32),
            positions=positions,
            token_types=jnp.zeros_like(ids),
            predict_positions=first,
            prediction_weights=one,
            label_weights=one,
            labels=first,
        )
        return apply({"params": params}, batch).logits

    def run(ids: Any) -> None:
        import numpy as np

        length = ids.shape[1]
        padded = np.pad(ids, [(0, 0), (0, -length % bucket)]).astype(np.int32)
        jax.block_until_ready(logits(params, padded, np.int32(length)))

    return make_turn(run, passes)


def load_torch_model(folder: str, attention: str) -> Any:
    """Loads a model with transformers."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation=attention).eval()


def peer(folder: str, passes: Any, *, attention: str, compiled: bool = False) -> Turn:
    """Returns a turn with transformers in PyTorch."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_torch_model(folder, attention).to(device)
    call = torch.compile(model, dynamic=False) if compiled else model

    def run(ids: Any) -> None:
        with torch.inference_mode():
            call(input_ids=torch.from_numpy(ids).to(device)).logits.cpu()

    return make_turn(run, passes)


def onnx(folder: str, passes: Any) -> Turn:
    """Returns a turn with ONNX Runtime."""
    import onnxruntime
    import torch

    model = load_torch_model(folder, "eager")
    with tempfile.TemporaryDirectory() as export_folder:
        path = pathlib.Path(export_folder) / "model.onnx"
        dynamic_axes = {"input_ids": {0: "rows", 1: "tokens"}}
        example = torch.from_numpy(make_ids(2, 16))
        torch.onnx.export(
            model,
            (example,),
            path,
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_axes=dynamic_axes,
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return make_turn(lambda ids: session.run(None, {"input_ids": ids}), passes)


SIDES = {
    "ours": ours,
    "ours, multiples of 8": functools.partial(ours, bucket=8),
    "eager": functools.partial(peer, attention="eager"),
    "sdpa": functools.partial(peer, attention="sdpa"),
    "compiled": functools.partial(peer, attention="sdpa", compiled=True),
    "onnx": onnx,
}
LATENCY_SIDES = ("ours", "eager", "sdpa", "compiled", "onnx")
PAPER_SIDES = ("ours, multiples of 8", "sdpa")


def tables(
    lengths: Sequence[int] = (),
    *,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    hidden: int = 768,
    layers: int = 12,
    sides: Sequence[str] = LATENCY_SIDES,
    repeats: int = 9,
) -> Iterator[Table]:
    """Yields a table of latencies and, if `lengths` are given, one for the protocol of the paper.

    Args:
        lengths: the number of tokens of each pair of STS-B.
        shapes: the shapes (rows, tokens) of the inputs.
        hidden: the hidden size of the models.
        layers: the number of layers of the teacher.
        sides: the names of the sides in the table of latencies.
        repeats: the number of turns.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        make_models(folder, hidden=hidden, layers=layers)
        title = f"Inference: {layers} × {hidden} and half the layers, ms"
        yield measure_latencies(folder, shapes, side_names=sides, repeats=repeats, title=title)
        if lengths:
            yield measure_paper_protocol(folder, lengths, max(3, repeats // 3))


def measure_latencies(
    folder: pathlib.Path, shapes: Sequence[tuple[int, int]], *, side_names: Sequence[str], repeats: int, title: str
) -> Table:
    """Returns a table with the latencies of both models on all sides."""
    passes = [[shape] for shape in shapes]
    sides = {
        (model, name): Side(module="inference", name=name, settings={"folder": str(folder / model), "passes": passes})
        for model in MODELS
        for name in side_names
    }
    measurements = take_turns(sides, repeats)
    medians = {
        side: [1e3 * statistics.median(measurements[side][str(i)]) for i in range(len(shapes))] for side in sides
    }
    rows, faster = [], {}
    for (model, name), times in medians.items():
        baseline = medians[model, "ours"]
        cells = [
            f"{t:.1f}" + ("" if name == "ours" else f" ({t / b:.2f} ×)") for t, b in zip(times, baseline, strict=True)
        ]
        rows.append((f"{model}, {name}", *cells, f"{max(measurements[model, name]['memory']) / 1e9:.2f}"))
        if name != "ours":
            faster |= {
                f"{model} {r} × {t}, {name}": x / b for (r, t), x, b in zip(shapes, times, baseline, strict=True)
            }
    header = ["model, side", *(f"{r} × {t}" for r, t in shapes), "peak memory, GB"]
    for name in side_names:
        ratios = [a / b for a, b in zip(medians["teacher", name], medians["student", name], strict=True)]
        rows.append((f"teacher / student, {name}", *(f"{ratio:.2f} ×" for ratio in ratios), ""))
    return Table(title=title, header=header, rows=rows, faster=faster)


def measure_paper_protocol(folder: pathlib.Path, lengths: Sequence[int], repeats: int) -> Table:
    """Returns a table with the times of one pass over STS-B, one pair at a time."""
    passes = [[(1, length) for length in lengths]]
    sides = {
        (model, name): Side(module="inference", name=name, settings={"folder": str(folder / model), "passes": passes})
        for model in MODELS
        for name in PAPER_SIDES
    }
    measurements = take_turns(sides, repeats)
    medians = {side: statistics.median(figures["0"]) for side, figures in measurements.items()}
    rows = []
    for (model, name), figures in measurements.items():
        ratio = medians["teacher", name] / medians[model, name]
        saved = 1 - medians[model, name] / medians["teacher", name]
        rows.append(
            (
                f"{model}, {name}",
                spread(figures["0"], 1),
                f"{ratio:.2f} ×",
                f"{saved:.0%}",
                f"{max(figures['memory']) / 1e9:.2f}",
            )
        )
    return Table(
        title=f"One pass over STS-B dev, {len(lengths)} pairs of {statistics.mean(lengths):.0f} tokens, one at a time",
        header=("model, side", "seconds (quartiles)", "speed relative to its teacher", "time saved", "peak memory, GB"),
        rows=rows,
        faster={
            f"STS-B, {model}, sdpa": medians[model, "sdpa"] / medians[model, "ours, multiples of 8"] for model in MODELS
        },
    )
