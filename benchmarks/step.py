"""One distillation update beside the same update in PyTorch, as a ratio, in one run.

    python benchmarks/step.py                  # 12 × 768 teacher, 6 × 768 student, 4 × 128 tokens, float32

Both sides are processes of their own that take turns, so the machine's noise falls on both; medians, with the quartiles
beside them, and each side's own matmul peak measured between its updates. Losses 5 / 2 / 1, T = 2, AdamW, clipping;
dropout 0 on both sides. The peer is written from the paper on transformers' models with SDPA attention:

    plain       the models' own forward: scores of every token, of which the asked ones are chosen afterwards
    gathered    what an expert would do for masked-only: the vocabulary head on the masked places alone
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from turns import take_turns

if TYPE_CHECKING:
    from distilbert_jax.models.transformer import TransformerConfig

VOCABULARY, TOKENS = 30_522, 128
ASKED = -(-15 * TOKENS // 100)  # masked words of a row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What is timed. `everywhere`: soft targets at every token, else at the masked ones only."""

    side: str
    everywhere: bool
    hidden: int = 768
    teacher_layers: int = 12
    student_layers: int = 6
    rows: int = 4

    @property
    def shapes(self) -> "tuple[TransformerConfig, TransformerConfig]":
        """Of student and teacher. (The package is imported where it is used: the peer's process has none of it.)"""
        from distilbert_jax.models.families import bert, distilbert

        size = {"hidden_size": self.hidden, "mlp_size": 4 * self.hidden, "dropout": 0.0, "attention_dropout": 0.0}
        student = dataclasses.replace(distilbert.BASE, num_layers=self.student_layers, **size)
        teacher = dataclasses.replace(bert.BASE, num_layers=self.teacher_layers, projection_dropout=0.0, **size)
        return student, teacher

    @property
    def flops(self) -> int:
        from distilbert_jax.models import cost

        places = TOKENS if self.everywhere else ASKED
        return cost.of_update(*self.shapes, rows=self.rows, length=TOKENS, places=places)


def ours(case: Case) -> tuple[Callable[[], None], Callable[[], None]]:
    """(one update, one 2,048³ matrix product)."""
    import jax
    import jax.numpy as jnp

    from distilbert_jax.data.masking import MaskedWords, log_preference
    from distilbert_jax.heads.masked_lm import MaskedLM
    from distilbert_jax.hub.read import parameter_shapes
    from distilbert_jax.losses.cosine import Cosine
    from distilbert_jax.losses.hard_targets import HardTargets
    from distilbert_jax.losses.soft_targets import SoftTargets
    from distilbert_jax.optimizer import AdamW
    from distilbert_jax.train.mesh import make_mesh, over_rows, replicated
    from distilbert_jax.train.step import make_train_step, start
    from distilbert_jax.types import Rows

    student, teacher = case.shapes
    random = lambda x: 0.02 * jax.random.normal(jax.random.key(x.size), x.shape)
    init = jax.jit(lambda cfg: jax.tree.map(random, parameter_shapes(cfg)), static_argnums=0)
    losses = {
        "soft": SoftTargets(weight=5.0, positions="asked" if case.everywhere else "labelled"),
        "hard": HardTargets(weight=2.0),
        "cosine": Cosine(),
    }
    words = MaskedWords(mask_id=103, words=VOCABULARY, everywhere=case.everywhere)
    preference = log_preference(jnp.ones(VOCABULARY), jnp.asarray([0, 100, 101, 102, 103]), smoothing=0.7)
    tx, mesh = AdamW().transformation(1_000), make_mesh()
    step = make_train_step(
        MaskedLM(student).apply,
        {"teacher": MaskedLM(teacher).apply},
        losses,
        tx,
        ask=lambda keys, rows: words(keys, rows, preference),
        mesh=mesh,
        seed=0,
    )
    step = jax.jit(step, donate_argnums=0)
    params = {"student": init(student), "losses": {name: {} for name in losses}}
    state = start(params, tx, mesh)
    shape = (1, case.rows, TOKENS)
    rows = Rows(
        rows=jnp.arange(case.rows)[None],
        epochs=jnp.zeros((1, case.rows), int),
        tokens=jax.random.randint(jax.random.key(0), shape, 1_000, VOCABULARY),
        segments=jnp.ones(shape, int),
    )
    teachers = jax.device_put({"teacher": init(teacher)}, replicated(mesh))
    rows = jax.device_put(rows, over_rows(mesh))

    def update() -> None:
        nonlocal state
        state, metrics = step(state, teachers, rows)
        jax.block_until_ready(metrics)

    x = jax.random.normal(jax.random.key(0), (2_048, 2_048))
    dot = jax.jit(jnp.dot)
    return update, lambda: jax.block_until_ready(dot(x, x))


def peer(case: Case) -> tuple[Callable[[], None], Callable[[], None]]:
    """The same in PyTorch."""
    import torch
    import torch.nn.functional as F
    from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

    torch.manual_seed(0)
    size = {"hidden_size": case.hidden, "intermediate_size": 4 * case.hidden, "num_hidden_layers": case.teacher_layers}
    teacher = BertForMaskedLM(BertConfig(attn_implementation="sdpa", **size)).eval()
    size = {"dim": case.hidden, "hidden_dim": 4 * case.hidden, "n_layers": case.student_layers}
    student = DistilBertForMaskedLM(
        DistilBertConfig(attn_implementation="sdpa", dropout=0, attention_dropout=0, **size)
    )
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0, fused=True
    )
    ids = torch.randint(1_000, VOCABULARY, (case.rows, TOKENS))
    masked = torch.zeros(case.rows, TOKENS, dtype=torch.bool)
    for row in masked:
        row[torch.randperm(TOKENS)[:ASKED]] = True
    corrupted, labels = torch.where(masked, torch.full_like(ids, 103), ids), ids[masked]
    everything = torch.ones_like(masked)

    def scores(model: Any, gathered: bool) -> tuple[Any, Any]:
        """(last hidden state, scores of the asked places)."""
        chosen = everything if case.everywhere else masked
        if not gathered:
            out = model(input_ids=corrupted, attention_mask=everything.long(), output_hidden_states=True)
            return out.hidden_states[-1], out.logits[chosen]
        base = model.bert if hasattr(model, "bert") else model.distilbert
        hidden = base(input_ids=corrupted, attention_mask=everything.long()).last_hidden_state
        if hasattr(model, "bert"):
            return hidden, model.cls(hidden[chosen])
        x = model.vocab_layer_norm(model.activation(model.vocab_transform(hidden[chosen])))
        return hidden, model.vocab_projector(x)

    gathered = case.side == "gathered"

    def update() -> None:
        with torch.no_grad():
            h_t, z_t = scores(teacher, gathered)
        h_s, z_s = scores(student, gathered)
        soft = (
            F.kl_div(F.log_softmax(z_s / 2, -1), F.log_softmax(z_t / 2, -1), reduction="batchmean", log_target=True) * 4
        )
        hard = F.cross_entropy(z_s[masked.flatten()] if case.everywhere else z_s, labels)
        cosine = (1 - F.cosine_similarity(h_s, h_t, dim=-1)).mean()
        (5 * soft + 2 * hard + cosine).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    x = torch.randn(2_048, 2_048)
    return update, lambda: torch.mm(x, x)


def serve(case: Case) -> None:
    """A side's own process: for every line it is sent, one timed update and the rate of one matrix product."""
    update, product = (ours if case.side == "ours" else peer)(case)
    update(), product()
    print("ready", flush=True)
    for _ in sys.stdin:
        times = []
        for work in (update, product):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        print(json.dumps({"update": times[0], "peak": 2 * 2_048**3 / times[1]}), flush=True)


def compare(everywhere: bool, size: dict[str, int], repeats: int) -> None:
    """Prints one table: every side of one kind of update."""
    sides = ("ours", "plain") if everywhere else ("ours", "plain", "gathered")
    cases = {side: Case(side=side, everywhere=everywhere, **size) for side in sides}
    commands = {side: (__file__, "--serve", json.dumps(dataclasses.asdict(case))) for side, case in cases.items()}
    got = take_turns(commands, repeats)
    best = statistics.median(entry["update"] for entry in got["ours"])
    print(f"\n{'soft targets at every token' if everywhere else 'soft targets at the masked words only'}, {size}")
    print("| side | update, s (quartiles) | tokens/s | its matmul peak, GFLOP/s | share of it | ours is faster |")
    print("|---|---|---|---|---|---|")
    for side, entries in got.items():
        low, middle, high = statistics.quantiles((entry["update"] for entry in entries), n=4)
        peak = statistics.median(entry["peak"] for entry in entries)
        tokens, share = cases[side].rows * TOKENS / middle, cases[side].flops / middle / peak
        cells = (f"{middle:.3f} ({low:.3f}–{high:.3f})", f"{tokens:.0f}", f"{peak / 1e9:.0f}", f"{share:.0%}")
        print(f"| {' | '.join((side, *cells, f'{middle / best:.2f} ×'))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="updates of each side")
    parser.add_argument("--rows", type=int, default=4, help="of 128 tokens")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--teacher-layers", type=int, default=12)
    parser.add_argument("--student-layers", type=int, default=6)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(Case(**json.loads(args.serve)))
        return
    size = {name: getattr(args, name) for name in ("hidden", "teacher_layers", "student_layers", "rows")}
    for everywhere in (False, True):
        compare(everywhere, size, args.repeats)


if __name__ == "__main__":
    main()
