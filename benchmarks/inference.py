"""Teacher and student with a classification head, forward, beside transformers and ONNX Runtime on the same weights.

    eager, sdpa     transformers in PyTorch, with its own attention and with PyTorch's
    compiled        sdpa by torch.compile
    onnx            ONNX Runtime, exported from PyTorch

And the protocol of Sanh et al. (2019), table 3: one pass over the development set of STS-B, one pair at a time, each at
its natural length (ours at the next multiple of 8, so that few programs are compiled).
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
VOCABULARY = 30_522


def make_models(folder: pathlib.Path, *, hidden: int = 768, layers: int = 12) -> None:
    """A BERT, and a DistilBERT of half its layers, of random weights."""
    from distilbert_jax.hub import smoke
    from distilbert_jax.models.transformer import TransformerConfig

    words = smoke.make_tiny_tokenizer()
    words.backend.add_tokens([f"word{i}" for i in range(words.vocab_size, VOCABULARY)])
    for seed, (name, family) in enumerate(MODELS.items()):
        config = TransformerConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            mlp_size=4 * hidden,
            num_layers=layers if family == "bert" else layers // 2,
            num_token_types=2 if family == "bert" else 0,
        )
        smoke.save_tiny_model(
            folder / name,
            config,
            tokenizer=words,
            family=family,
            seed=seed,
            head="sequence_classification",
        )


def ids_of(rows: int, length: int) -> Any:
    """The same for every side."""
    import numpy as np

    return np.random.default_rng(length).integers(0, VOCABULARY, (rows, length))


def timed(run: Callable[[Any], Any], passes: Sequence[Sequence[tuple[int, int]]]) -> Turn:
    """A turn over `passes`, each some inputs of (rows, length); its figures are their seconds, by number."""
    inputs = [[ids_of(*shape) for shape in one] for one in passes]
    return lambda: {str(i): seconds(lambda one=one: [run(ids) for ids in one]) for i, one in enumerate(inputs)}


def ours(folder: str, passes: Any, *, bucket: int = 1) -> Turn:
    """Jitted encoder and head."""
    import jax
    import jax.numpy as jnp

    from distilbert_jax.config.experiment import Pretrained
    from distilbert_jax.hub.load import load_pretrained
    from distilbert_jax.types import Batch

    model = load_pretrained(Pretrained(folder), head="sequence_classification")
    params = jax.device_put(model.params)
    apply: Any = model.module.apply

    @jax.jit
    def scores(params: Any, ids: Any, length: Any) -> Any:
        b, t = ids.shape
        at = jnp.arange(t)
        every = jnp.broadcast_to(at, (b, t))
        first, one = jnp.zeros((b, 1), jnp.int32), jnp.ones((b, 1))
        batch = Batch(
            row_ids=first[:, 0],
            epochs=first[:, 0],
            tokens=ids,
            segment_ids=(every < length).astype(jnp.int32),
            positions=every,
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
        jax.block_until_ready(scores(params, padded, np.int32(length)))

    return timed(run, passes)


def torch_model(folder: str, attention: str) -> Any:
    """Loads a sequence classifier with transformers."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation=attention).eval()


def peer(folder: str, passes: Any, *, attention: str, compiled: bool = False) -> Turn:
    """The same by transformers."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch_model(folder, attention).to(device)
    call = torch.compile(model, dynamic=False) if compiled else model

    def run(ids: Any) -> None:
        with torch.inference_mode():
            call(input_ids=torch.from_numpy(ids).to(device)).logits.cpu()

    return timed(run, passes)


def onnx(folder: str, passes: Any) -> Turn:
    """ONNX Runtime."""
    import onnxruntime
    import torch

    model = torch_model(folder, "eager")
    with tempfile.TemporaryDirectory() as where:
        path = pathlib.Path(where) / "model.onnx"
        names = {"input_ids": {0: "rows", 1: "tokens"}}
        example = torch.from_numpy(ids_of(2, 16))
        torch.onnx.export(
            model,
            (example,),
            path,
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_axes=names,
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return timed(lambda ids: session.run(None, {"input_ids": ids}), passes)


SIDES = {
    "ours": ours,
    "ours, in eights": functools.partial(ours, bucket=8),
    "eager": functools.partial(peer, attention="eager"),
    "sdpa": functools.partial(peer, attention="sdpa"),
    "compiled": functools.partial(peer, attention="sdpa", compiled=True),
    "onnx": onnx,
}
WAYS, OF_PAPER = ("ours", "eager", "sdpa", "compiled", "onnx"), ("ours, in eights", "sdpa")


def tables(
    lengths: Sequence[int] = (),
    *,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    hidden: int = 768,
    layers: int = 12,
    sides: Sequence[str] = WAYS,
    repeats: int = 9,
) -> Iterator[Table]:
    """Latencies of `shapes`, (rows, tokens); and of the paper's protocol, where the `lengths` of STS-B are given."""
    with tempfile.TemporaryDirectory() as where:
        folder = pathlib.Path(where)
        make_models(folder, hidden=hidden, layers=layers)
        title = f"Inference: {layers} × {hidden} and half the layers, ms"
        yield latencies(folder, shapes, ways=sides, repeats=repeats, title=title)
        if lengths:
            yield papers_protocol(folder, lengths, max(3, repeats // 3))


def latencies(
    folder: pathlib.Path, shapes: Sequence[tuple[int, int]], *, ways: Sequence[str], repeats: int, title: str
) -> Table:
    """Of every side and model."""
    passes = [[shape] for shape in shapes]
    sides = {
        (model, name): Side(module="inference", name=name, settings={"folder": str(folder / model), "passes": passes})
        for model in MODELS
        for name in ways
    }
    got = take_turns(sides, repeats)
    middle = {side: [1e3 * statistics.median(got[side][str(i)]) for i in range(len(shapes))] for side in sides}
    rows, faster = [], {}
    for (model, name), times in middle.items():
        best = middle[model, "ours"]
        cells = [f"{t:.1f}" + ("" if name == "ours" else f" ({t / b:.2f} ×)") for t, b in zip(times, best, strict=True)]
        rows.append((f"{model}, {name}", *cells, f"{max(got[model, name]['memory']) / 1e9:.2f}"))
        if name != "ours":
            faster |= {f"{model} {r} × {t}, {name}": x / b for (r, t), x, b in zip(shapes, times, best, strict=True)}
    header = ["model, side", *(f"{r} × {t}" for r, t in shapes), "peak GB"]
    for name in ways:
        ratios = [a / b for a, b in zip(middle["teacher", name], middle["student", name], strict=True)]
        rows.append((f"teacher / student, {name}", *(f"{ratio:.2f} ×" for ratio in ratios), ""))
    return Table(title=title, header=header, rows=rows, faster=faster)


def papers_protocol(folder: pathlib.Path, lengths: Sequence[int], repeats: int) -> Table:
    """One pass, one pair at a time."""
    passes = [[(1, length) for length in lengths]]
    sides = {
        (model, name): Side(module="inference", name=name, settings={"folder": str(folder / model), "passes": passes})
        for model in MODELS
        for name in OF_PAPER
    }
    got = take_turns(sides, repeats)
    middle = {side: statistics.median(figures["0"]) for side, figures in got.items()}
    rows = []
    for (model, name), figures in got.items():
        ratio = middle["teacher", name] / middle[model, name]
        saved = 1 - middle[model, name] / middle["teacher", name]
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
        header=("model, side", "seconds (quartiles)", "as fast as its teacher", "time saved", "peak GB"),
        rows=rows,
        faster={f"STS-B, {model}, sdpa": middle[model, "sdpa"] / middle[model, "ours, in eights"] for model in MODELS},
    )
