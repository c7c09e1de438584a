"""Examples a second of fine-tuning on SST-2, beside the same loop on transformers' model in PyTorch, in one run.

    python benchmarks/finetune.py MODEL GLUE_FOLDER

Both sides are processes of their own that take turns over the same batches: rows of like length together, 32 a batch.
Ours pads them to one of few lengths, so that little is compiled; the peer to the longest of each batch, as
transformers' collator does. Dropout, AdamW and clipping on both sides, in float32 and with products in bfloat16
(autocast for the peer); the pass that compiles is not counted.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from turns import take_turns


def rows_of(model: str, glue: str, batches: int, dtype: Any) -> Any:
    """(what fine-tuning turns, its first batches)."""
    from distilbert_jax.config import Pretrained, fine_tune
    from distilbert_jax.data.tasks import catalogue
    from distilbert_jax.data.tasks.batches import TaskBatches
    from distilbert_jax.train import tuning

    task = catalogue.find("sst2", pathlib.Path(glue))
    plan = fine_tune(task, folder=glue, model=Pretrained(model))
    turned = tuning.build(dataclasses.replace(plan, dtype=dtype), task)
    all_batches = TaskBatches(rows=turned.train.encoded.rows, seed=0, size=turned.plan.batch, layout=turned.layout)
    return turned, list(itertools.islice(all_batches.epoch(0), batches))


def ours(model: str, glue: str, batches: int, *, dtype: str) -> Callable[[], int]:
    """A pass over the batches, which returns how many examples it saw."""
    import jax

    from distilbert_jax.train.mesh import place
    from distilbert_jax.types import Batch

    turned, made = rows_of(model, glue, batches, dtype)
    state = turned.start(0)

    def run() -> int:
        nonlocal state
        for batch in made:
            state, metrics = turned.train_step(state, {}, Batch(**place(batch, turned.mesh)), 0)
        jax.block_until_ready(metrics)
        return sum(int(batch["weights"].sum()) for batch in made)

    return run


def peer(model: str, glue: str, batches: int, *, dtype: str) -> Callable[[], int]:
    """The same in PyTorch."""
    import torch
    from transformers import AutoModelForSequenceClassification

    _, made = rows_of(model, glue, batches, dtype)
    net = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-5, weight_decay=0.01, fused=True)
    padded = []
    for batch in made:
        real = batch["weights"][0, :, 0] > 0
        longest = int((batch["segments"][0] > 0).sum(-1).max())
        ids, mask = (torch.tensor(batch[name][0][real, :longest]).long() for name in ("tokens", "segments"))
        padded.append((ids, mask, torch.tensor(batch["labels"][0][real, 0]).long()))

    def run() -> int:
        for ids, mask, labels in padded:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = net(input_ids=ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return sum(len(labels) for _, _, labels in padded)

    return run


TYPES = ("float32", "bfloat16")
SIDES = {
    f"{name}, {dtype}": functools.partial(side, dtype=dtype)
    for name, side in (("ours", ours), ("transformers", peer))
    for dtype in TYPES
}
PEER = "transformers, float32"


def serve(side: str, model: str, glue: str, batches: int) -> None:
    """A side's own process: for every line it is sent, one timed pass."""
    run = SIDES[side](model, glue, batches)
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        examples = run()
        print(json.dumps(examples / (time.perf_counter() - start)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a Hub folder")
    parser.add_argument("glue", help="the folder with SST-2/train.tsv")
    parser.add_argument("--batches", type=int, default=30, help="of a pass")
    parser.add_argument("--repeats", type=int, default=7, help="passes of each side")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.model, args.glue, args.batches)
        return
    command = (__file__, args.model, args.glue, f"--batches={args.batches}")
    got = take_turns({side: (*command, f"--serve={side}") for side in SIDES}, args.repeats)
    theirs = statistics.median(got[PEER])
    print(f"| side | examples/s (quartiles) | beside {PEER} |\n|---|---|---|")
    for side, rates in got.items():
        low, middle, high = statistics.quantiles(rates, n=4)
        print(f"| {side} | {middle:.1f} ({low:.1f}–{high:.1f}) | {middle / theirs:.2f} × |")


if __name__ == "__main__":
    main()
