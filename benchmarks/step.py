"""Measures one update of distillation, compared with the same update in PyTorch.

Both sides have loss weights of 5, 2 and 1, temperature 2, AdamW, gradient clipping and the same dropout. The peer is
written from the paper, with the models of transformers and SDPA attention:

    plain       the forward pass of the models: logits at all tokens, from which those of the
                predictions are selected
    gathered    what an expert would do for masked tokens: the vocabulary head only at the masked tokens
    compiled    models and losses are compiled with torch.compile

On a machine with a GPU, both sides use it. In bfloat16, this package multiplies in bfloat16, and the peer uses
autocast.
"""

import dataclasses
import functools
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from turns import Side, Table, Turn, seconds, spread, take_turns

if TYPE_CHECKING:
    from distilbert_jax.models.transformer import TransformerConfig

VOCAB_SIZE, MASK_ID = 30_522, 103


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """The update that is measured.

    Attributes:
        all_positions: whether the soft targets are compared at all tokens, or only at the masked ones.
        hidden: the hidden size of the student.
        teacher_hidden: the hidden size of the teacher. If it is another one, hidden states are not compared.
        teacher_layers: the number of layers of the teacher. If it is 0, there is no teacher and only the hard loss.
        student_layers: the number of layers of the student.
        rows: the number of rows in the batch.
        tokens: the number of tokens in a row.
        dtype: the dtype of the matrix products.
        dropout: the dropout rate.
    """

    all_positions: bool = False
    hidden: int = 768
    teacher_hidden: int = 768
    teacher_layers: int = 12
    student_layers: int = 6
    rows: int = 4
    tokens: int = 128
    dtype: str = "float32"
    dropout: float = 0.0

    def __str__(self) -> str:
        """Returns the case as text, for the heading of its table."""
        teacher = f"{self.teacher_layers} × {self.teacher_hidden} → " if self.teacher_layers else ""
        positions = "soft targets at all tokens" if self.all_positions else "masked tokens only"
        size = f"{teacher}{self.student_layers} × {self.hidden}, {self.rows} × {self.tokens} tokens"
        return f"{size}, {positions}, {self.dtype}, dropout {self.dropout}"

    @property
    def same_width(self) -> bool:
        """Whether student and teacher have the same hidden size."""
        return self.hidden == self.teacher_hidden

    @property
    def num_masked(self) -> int:
        """The number of masked tokens in a row."""
        return -(-15 * self.tokens // 100)

    @property
    def student(self) -> "TransformerConfig":
        """The config of the student. The import is local, because the process of the peer does not load JAX."""
        from distilbert_jax.models.families import distilbert

        return self._resize(distilbert.BASE, self.hidden, self.student_layers, 0.0)

    @property
    def teacher(self) -> "TransformerConfig | None":
        """The config of the teacher, or None."""
        from distilbert_jax.models.families import bert

        if not self.teacher_layers:
            return None
        return self._resize(bert.BASE, self.teacher_hidden, self.teacher_layers, self.dropout)

    def _resize(self, base: Any, hidden: int, layers: int, attention_output_dropout: float) -> "TransformerConfig":
        """Returns `base` with the given sizes and the settings of this case."""
        return dataclasses.replace(
            base,
            hidden_size=hidden,
            mlp_size=4 * hidden,
            num_layers=layers,
            dropout=self.dropout,
            attention_dropout=self.dropout,
            attention_output_dropout=attention_output_dropout,
            dtype=self.dtype,
        )

    @property
    def flops(self) -> int:
        """The floating point operations of one update."""
        from distilbert_jax.models import cost_model

        num_predictions = self.tokens if self.all_positions else self.num_masked
        return cost_model.update_flops(
            self.student, self.teacher, rows=self.rows, length=self.tokens, num_predictions=num_predictions
        )


def ours(**settings: Any) -> Turn:
    """Returns a turn that does one update and one large matrix product, whose rate is the peak for the comparison."""
    import jax
    import jax.numpy as jnp

    from distilbert_jax.data.masking import TokenMasker, compute_log_preference
    from distilbert_jax.devices import peak
    from distilbert_jax.devices.mesh import make_mesh, replicated_sharding, row_sharding
    from distilbert_jax.heads.masked_lm import MaskedLM
    from distilbert_jax.hub.load import parameter_shapes
    from distilbert_jax.losses.hard_targets import HardTargets
    from distilbert_jax.losses.hidden_cosine import HiddenCosine
    from distilbert_jax.losses.soft_targets import SoftTargets
    from distilbert_jax.optimizer import AdamW
    from distilbert_jax.train.objective import Objective
    from distilbert_jax.train.step import init_train_state, make_gradients, make_train_step
    from distilbert_jax.types import PackedRows

    case = Case(**settings)

    def random(x: Any) -> Any:
        return 0.02 * jax.random.normal(jax.random.key(x.size), x.shape)

    init = jax.jit(lambda config: jax.tree.map(random, parameter_shapes(config)), static_argnums=0)
    losses = {"hard": HardTargets(weight=2.0)}
    if case.teacher:
        soft = SoftTargets(weight=5.0, positions="all" if case.all_positions else "masked")
        losses |= {"soft": soft} | ({"cosine": HiddenCosine()} if case.same_width else {})
    masker = TokenMasker(mask_id=MASK_ID, vocab_size=VOCAB_SIZE, all_positions=case.all_positions)
    preference = compute_log_preference(jnp.ones(VOCAB_SIZE), jnp.asarray([0, 100, 101, 102, 103]), smoothing=0.7)
    tx, mesh = AdamW().make_transformation(1_000), make_mesh()
    models = {"teacher": case.teacher} if case.teacher else {}
    objective = Objective(
        student=MaskedLM(case.student).apply,
        teachers={name: MaskedLM(config).apply for name, config in models.items()},
        losses=losses,
        make_batch=lambda keys, rows: masker(keys, rows, preference),
        seed=0,
    )
    step = make_train_step(make_gradients(objective, mesh), tx, mesh)
    step = jax.jit(step, donate_argnums=0)
    state = init_train_state({"student": init(case.student), "losses": {name: {} for name in losses}}, tx, mesh)
    shape = (1, case.rows, case.tokens)
    rows = PackedRows(
        row_ids=jnp.arange(case.rows)[None],
        epochs=jnp.zeros((1, case.rows), int),
        tokens=jax.random.randint(jax.random.key(0), shape, 1_000, VOCAB_SIZE),
        segment_ids=jnp.ones(shape, int),
    )
    teachers = jax.device_put({name: init(config) for name, config in models.items()}, replicated_sharding(mesh))
    rows = jax.device_put(rows, row_sharding(mesh))

    def update() -> None:
        nonlocal state
        state, metrics = step(state, teachers, rows)
        jax.block_until_ready(metrics)

    size = 8_192 if jax.default_backend() == "gpu" else 2_048
    x = jax.random.normal(jax.random.key(0), (size, size), case.dtype)
    dot = jax.jit(lambda x: jnp.dot(x, x, preferred_element_type=jnp.float32))

    def multiply() -> None:
        jax.block_until_ready(dot(x))

    return lambda: {
        "update": seconds(update),
        "peak": 2 * size**3 / seconds(multiply),
        "memory": peak.peak_memory_bytes(),
    }


def peer(*, gathered: bool = False, compiled: bool = False, **settings: Any) -> Turn:
    """Returns the same turn with transformers in PyTorch.

    It is long because it holds the complete update: masks, models, losses and optimizer.
    """
    import torch
    import torch.nn.functional as F

    case = Case(**settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_default_device(device)
    teacher, student = _make_torch_models(case)
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0, fused=True
    )
    ids = torch.randint(1_000, VOCAB_SIZE, (case.rows, case.tokens))
    masked = torch.zeros(case.rows, case.tokens, dtype=torch.bool)
    for row in masked:
        row[torch.randperm(case.tokens)[: case.num_masked]] = True
    masked_index = masked.flatten().nonzero().squeeze(1)
    corrupted, labels = torch.where(masked, torch.full_like(ids, MASK_ID), ids), ids[masked]

    def forward(model: Any) -> tuple[Any, Any]:
        """Returns the last hidden state, and the logits at all tokens or, if gathered, at the masked ones."""
        if not gathered:
            out = model(input_ids=corrupted, output_hidden_states=True)
            return out.hidden_states[-1], out.logits.flatten(0, 1)
        hidden = (model.bert if hasattr(model, "bert") else model.distilbert)(input_ids=corrupted).last_hidden_state
        x = hidden.flatten(0, 1).index_select(0, masked_index)
        if hasattr(model, "bert"):
            return hidden, model.cls(x)
        return hidden, model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(x))))

    def at_masked(logits: Any) -> Any:
        return logits if gathered else logits.index_select(0, masked_index)

    def objective() -> Any:
        student_hidden, student_logits = forward(student)
        hard = F.cross_entropy(at_masked(student_logits).float(), labels)
        if teacher is None:
            return 2 * hard
        with torch.no_grad():
            teacher_hidden, teacher_logits = forward(teacher)
        if not case.all_positions:
            student_logits, teacher_logits = at_masked(student_logits), at_masked(teacher_logits)
        log_q, log_p = F.log_softmax(student_logits.float() / 2, -1), F.log_softmax(teacher_logits.float() / 2, -1)
        soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * 4
        cosine = 0.0
        if case.same_width:
            cosine = (1 - F.cosine_similarity(student_hidden.float(), teacher_hidden.float(), dim=-1)).mean()
        return 5 * soft + 2 * hard + cosine

    objective = torch.compile(objective) if compiled else objective

    def update() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            value = objective()
        value.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        value.item()

    size = 8_192 if device == "cuda" else 2_048
    x = torch.randn(size, size, dtype=getattr(torch, case.dtype))

    def multiply() -> None:
        (x @ x)[0, 0].item()

    def turn() -> dict[str, float]:
        measurements = {"update": seconds(update), "peak": 2 * size**3 / seconds(multiply)}
        return measurements | ({"memory": torch.cuda.max_memory_allocated()} if device == "cuda" else {})

    return turn


def _make_torch_models(case: Case) -> tuple[Any, Any]:
    """Returns the teacher, or None, and the student with random weights."""
    from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

    teacher = None
    if case.teacher_layers:
        size = {"hidden_size": case.teacher_hidden, "intermediate_size": 4 * case.teacher_hidden}
        size |= {"num_hidden_layers": case.teacher_layers, "num_attention_heads": 12}
        teacher = BertForMaskedLM(BertConfig(attn_implementation="sdpa", **size)).eval()
    size = {
        "dim": case.hidden,
        "hidden_dim": 4 * case.hidden,
        "n_layers": case.student_layers,
        "n_heads": 12,
    }
    rates = {"dropout": case.dropout, "attention_dropout": case.dropout}
    return teacher, DistilBertForMaskedLM(DistilBertConfig(attn_implementation="sdpa", **size, **rates)).train()


PEERS = {
    f"{way}, {how}": {"gathered": way == "gathered", "compiled": how == "compiled"}
    for way in ("plain", "gathered")
    for how in ("eager", "compiled")
}
SIDES = {"ours": ours} | {name: functools.partial(peer, **how) for name, how in PEERS.items()}


def compare(case: Case, *, repeats: int, sides: Sequence[str]) -> Table:
    """Measures the sides of one case. The gathered sides are skipped for soft targets at all tokens."""
    settings = dataclasses.asdict(case)
    sides = [name for name in sides if not (case.all_positions and name.startswith("gathered"))]
    measurements = take_turns({name: Side(module="step", name=name, settings=settings) for name in sides}, repeats)
    medians = {side: statistics.median(figures["update"]) for side, figures in measurements.items()}
    rows = []
    for side, figures in measurements.items():
        peak = statistics.median(figures["peak"])
        tokens_per_second, utilization = case.rows * case.tokens / medians[side], case.flops / medians[side] / peak
        rows.append(
            (
                side,
                spread(figures["update"]),
                f"{tokens_per_second:,.0f}",
                f"{peak / 1e9:,.0f}",
                f"{utilization:.0%}",
                f"{max(figures['memory']) / 1e9:.2f}",
                f"{medians[side] / medians['ours']:.2f} ×",
            )
        )
    header = (
        "side",
        "update, s (quartiles)",
        "tokens/s",
        "peak of its matrix product, GFLOP/s",
        "utilization of this peak",
        "peak memory, GB",
        "ours is faster",
    )
    faster = {side: medians[side] / medians["ours"] for side in sides if side != "ours"}
    return Table(title=f"Update: {case}", header=header, rows=rows, faster=faster)


CPU_CASES = (
    Case(),
    Case(all_positions=True),
    Case(dropout=0.1),
    Case(dtype="bfloat16"),
    Case(rows=16),
    Case(rows=16, dtype="bfloat16"),
    Case(teacher_layers=0, hidden=384, rows=32),
    Case(teacher_layers=0, hidden=384, rows=32, dtype="bfloat16"),
)
TINY_CASES = tuple(
    Case(hidden=12, teacher_hidden=12, teacher_layers=layers, student_layers=1, rows=1) for layers in (2, 0)
)
GPU_CASES = (
    Case(tokens=512, rows=32, dtype="bfloat16"),
    Case(tokens=512, rows=32, dtype="bfloat16", all_positions=True),
    Case(tokens=512, rows=64, hidden=384, teacher_layers=6, dtype="bfloat16"),
)
"""The cases for a CPU, for a quick test, and for a GPU."""


def tables(
    cases: Sequence[Case] = CPU_CASES, *, sides: Sequence[str] = tuple(SIDES), repeats: int = 9
) -> Iterator[Table]:
    """Yields one table for each case."""
    for case in cases:
        yield compare(case, repeats=repeats, sides=sides)
