"""Examples a second of fine-tuning on SST-2, beside the same loop on transformers' model in PyTorch.

Both sides turn over the same batches: rows of like length together, 32 a batch. Ours pads them to one of few lengths,
so that little is compiled; the peer to the longest of each batch, as transformers' collator does. Dropout, AdamW and
clipping on both sides, in float32 and with products in bfloat16 (autocast for the peer).
"""

import dataclasses
import functools
import itertools
import pathlib
import statistics
from collections.abc import Iterator
from typing import Any

from turns import Side, Table, Turn, seconds, spread, take_turns


def rows_of(model: str, glue: str, batches: int, dtype: Any) -> Any:
    """(what fine-tuning turns, its first batches)."""
    from distilbert_jax.config.experiment import Pretrained
    from distilbert_jax.config.finetune import default_finetune_config
    from distilbert_jax.data.tasks import registry
    from distilbert_jax.data.tasks.batches import TaskBatches
    from distilbert_jax.train.finetune import setup

    task = registry.find_task("sst2", pathlib.Path(glue))
    plan = default_finetune_config(task, task_dir=glue, model=Pretrained(model))
    turned = setup.setup_finetuning(dataclasses.replace(plan, dtype=dtype), task)
    all_batches = TaskBatches(
        rows=turned.train.encoded.rows, seed=0, batch_size=turned.config.batch_size, layout=turned.layout
    )
    return turned, list(itertools.islice(all_batches.epoch(0), batches))


def ours(model: str, glue: str, batches: int, *, dtype: str) -> Turn:
    """A pass over the batches."""
    import jax

    from distilbert_jax.devices.mesh import put_batch
    from distilbert_jax.types import Batch

    turned, made = rows_of(model, glue, batches, dtype)
    state = turned.start(0)
    examples = sum(int(batch["label_weights"].sum()) for batch in made)

    def run() -> None:
        nonlocal state
        for batch in made:
            state, metrics = turned.train_step(state, {}, Batch(**put_batch(batch, turned.mesh)), 0)
        jax.block_until_ready(metrics)

    return lambda: {"examples_per_second": examples / seconds(run)}


def peer(model: str, glue: str, batches: int, *, dtype: str) -> Turn:
    """The same in PyTorch."""
    import torch
    from transformers import AutoModelForSequenceClassification

    _, made = rows_of(model, glue, batches, dtype)
    net = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-5, weight_decay=0.01, fused=True)
    padded = []
    for batch in made:
        real = batch["label_weights"][0, :, 0] > 0
        longest = int((batch["segment_ids"][0] > 0).sum(-1).max())
        ids, mask = (torch.tensor(batch[name][0][real, :longest]).long() for name in ("tokens", "segment_ids"))
        padded.append((ids, mask, torch.tensor(batch["labels"][0][real, 0]).long()))

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
    """`model` is a Hub folder, `glue` the folder with SST-2/train.tsv."""
    settings = {"model": str(model), "glue": str(glue), "batches": batches}
    got = take_turns({side: Side(module="finetune", name=side, settings=settings) for side in SIDES}, repeats)
    rates = {side: figures["examples_per_second"] for side, figures in got.items()}
    theirs = statistics.median(rates[PEER])
    rows = [(side, spread(rate, 1), f"{statistics.median(rate) / theirs:.2f} ×") for side, rate in rates.items()]
    yield Table(
        title="Fine-tuning on SST-2, 32 a batch",
        header=("side", "examples/s (quartiles)", f"beside {PEER}"),
        rows=rows,
        faster={
            f"transformers, {dtype}": statistics.median(rates[f"ours, {dtype}"])
            / statistics.median(rates[f"transformers, {dtype}"])
            for dtype in ("float32", "bfloat16")
        },
    )
