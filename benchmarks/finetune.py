"""Measures the examples per second of fine-tuning on SST-2, compared with the same loop on transformers in PyTorch.

Both sides train on the same batches of 32 examples, in which texts of similar length are grouped. This package pads a
batch to one of a few lengths, so that few programs are compiled. The peer pads it to its longest text, as the collator
of transformers does. Both sides use dropout, AdamW and gradient clipping, in float32 and in bfloat16 (autocast for the
peer).
"""

import dataclasses
import functools
import itertools
import pathlib
import statistics
from collections.abc import Iterator
from typing import Any

from turns import Side, Table, Turn, seconds, spread, take_turns


def load_batches(model: str, glue: str, batches: int, dtype: Any) -> Any:
    """Returns the FineTuneSetup and the first batches of its first epoch."""
    from distilbert_jax.config.experiment import Pretrained
    from distilbert_jax.config.finetune import default_finetune_config
    from distilbert_jax.data.tasks import registry
    from distilbert_jax.data.tasks.batches import TaskBatches
    from distilbert_jax.train.finetune.setup import load_inputs, setup_finetuning

    task = registry.find_task("sst2", pathlib.Path(glue))
    config = default_finetune_config(task, task_dir=glue, model=Pretrained(model))
    setup = setup_finetuning(load_inputs(dataclasses.replace(config, dtype=dtype), task))
    all_batches = TaskBatches(
        rows=setup.train.encoded.rows, seed=0, batch_size=setup.config.batch_size, layout=setup.layout
    )
    return setup, list(itertools.islice(all_batches.iter_epoch(0), batches))


def ours(model: str, glue: str, batches: int, *, dtype: str) -> Turn:
    """Returns a turn that trains once on all batches."""
    import jax

    from distilbert_jax.devices.mesh import put_batch
    from distilbert_jax.types import Batch

    setup, batch_list = load_batches(model, glue, batches, dtype)
    state = setup.init_state(0)
    examples = sum(int(batch["label_weights"].sum()) for batch in batch_list)

    def run() -> None:
        nonlocal state
        for batch in batch_list:
            state, metrics = setup.train_step(state, {}, Batch(**put_batch(batch, setup.mesh)), 0)
        jax.block_until_ready(metrics)

    return lambda: {"examples_per_second": examples / seconds(run)}


def peer(model: str, glue: str, batches: int, *, dtype: str) -> Turn:
    """Returns the same turn with transformers in PyTorch."""
    import torch
    from transformers import AutoModelForSequenceClassification

    _, batch_list = load_batches(model, glue, batches, dtype)
    net = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-5, weight_decay=0.01, fused=True)
    padded = []
    for batch in batch_list:
        has_label = batch["label_weights"][0, :, 0] > 0  # the other rows are padding
        longest = int((batch["segment_ids"][0] > 0).sum(-1).max())
        ids, mask = (torch.tensor(batch[name][0][has_label, :longest]).long() for name in ("tokens", "segment_ids"))
        padded.append((ids, mask, torch.tensor(batch["labels"][0][has_label, 0]).long()))

    def run() -> None:
        for ids, mask, labels in padded:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = net(input_ids=ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    examples = sum(len(labels) for _, _, labels in padded)
    return lambda: {"examples_per_second": examples / seconds(run)}


SIDES = {
    f"{name}, {dtype}": functools.partial(side, dtype=dtype)
    for name, side in (("ours", ours), ("transformers", peer))
    for dtype in ("float32", "bfloat16")
}
PEER = "transformers, float32"


def tables(model: str, glue: str, batches: int = 30, repeats: int = 7) -> Iterator[Table]:
    """Yields one table. `model` is a model folder, and `glue` the folder with SST-2/train.tsv."""
    settings = {"model": str(model), "glue": str(glue), "batches": batches}
    measurements = take_turns({side: Side(module="finetune", name=side, settings=settings) for side in SIDES}, repeats)
    rates = {side: figures["examples_per_second"] for side, figures in measurements.items()}
    peer_rate = statistics.median(rates[PEER])
    rows = [(side, spread(rate, 1), f"{statistics.median(rate) / peer_rate:.2f} ×") for side, rate in rates.items()]
    yield Table(
        title="Fine-tuning on SST-2, batch size 32",
        header=("side", "examples/s (quartiles)", f"speed relative to {PEER}"),
        rows=rows,
        faster={
            f"transformers, {dtype}": statistics.median(rates[f"ours, {dtype}"])
            / statistics.median(rates[f"transformers, {dtype}"])
            for dtype in ("float32", "bfloat16")
        },
    )
