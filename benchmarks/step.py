"""One update of distillation beside the same update in PyTorch.

Losses 5 / 2 / 1, T = 2, AdamW, clipping, the same dropout on both sides. The peer is written from the paper on
transformers' models with SDPA attention:

    plain       the models' own forward: scores of every token, of which the asked ones are chosen afterwards
    gathered    what an expert would do for masked words: the vocabulary head on the masked places alone
    compiled    models and losses by torch.compile

On a GPU both sides use it; in bfloat16 ours multiplies in it, and the peer runs under autocast.
"""

import dataclasses
import functools
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from turns import Side, Table, Turn, seconds, spread, take_turns

if TYPE_CHECKING:
    from distilbert_jax.models.transformer import TransformerConfig

VOCABULARY, MASK = 30_522, 103


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What is timed. `everywhere`: soft targets at every token, else at the masked ones only. Without layers of a
    teacher, masked words alone are learned; where it is of another width, hidden states are not compared.
    """

    everywhere: bool = False
    hidden: int = 768
    teacher_hidden: int = 768
    teacher_layers: int = 12
    student_layers: int = 6
    rows: int = 4
    tokens: int = 128
    dtype: str = "float32"
    dropout: float = 0.0

    def __str__(self) -> str:
        teacher = f"{self.teacher_layers} × {self.teacher_hidden} → " if self.teacher_layers else ""
        asked = "soft targets at every token" if self.everywhere else "masked words only"
        size = f"{teacher}{self.student_layers} × {self.hidden}, {self.rows} × {self.tokens} tokens"
        return f"{size}, {asked}, {self.dtype}, dropout {self.dropout}"

    @property
    def same_width(self) -> bool:
        """Whether student and teacher have the same hidden size."""
        return self.hidden == self.teacher_hidden

    @property
    def asked(self) -> int:
        """Masked words of a row."""
        return -(-15 * self.tokens // 100)

    @property
    def student(self) -> "TransformerConfig":
        """(The package is imported where it is used: the peer's process has no JAX.)"""
        from distilbert_jax.models.families import distilbert

        return self._shape(distilbert.BASE, self.hidden, self.student_layers, 0.0)

    @property
    def teacher(self) -> "TransformerConfig | None":
        """The shape of the teacher, or None."""
        from distilbert_jax.models.families import bert

        if not self.teacher_layers:
            return None
        return self._shape(bert.BASE, self.teacher_hidden, self.teacher_layers, self.dropout)

    def _shape(self, base: Any, hidden: int, layers: int, attention_output_dropout: float) -> "TransformerConfig":
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

        places = self.tokens if self.everywhere else self.asked
        return cost_model.update_flops(
            self.student, self.teacher, rows=self.rows, length=self.tokens, num_predictions=places
        )


def ours(**settings: Any) -> Turn:
    """One update, and the rate of one matrix product."""
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

    def random(x):
        return 0.02 * jax.random.normal(jax.random.key(x.size), x.shape)

    init = jax.jit(lambda config: jax.tree.map(random, parameter_shapes(config)), static_argnums=0)
    losses = {"hard": HardTargets(weight=2.0)}
    if case.teacher:
        soft = SoftTargets(weight=5.0, positions="all" if case.everywhere else "labelled")
        losses |= {"soft": soft} | ({"cosine": HiddenCosine()} if case.same_width else {})
    words = TokenMasker(mask_id=MASK, vocab_size=VOCABULARY, all_positions=case.everywhere)
    preference = compute_log_preference(jnp.ones(VOCABULARY), jnp.asarray([0, 100, 101, 102, 103]), smoothing=0.7)
    tx, mesh = AdamW().make_transformation(1_000), make_mesh()
    models = {"teacher": case.teacher} if case.teacher else {}
    objective = Objective(
        student=MaskedLM(case.student).apply,
        teachers={name: MaskedLM(config).apply for name, config in models.items()},
        losses=losses,
        make_batch=lambda keys, rows: words(keys, rows, preference),
        seed=0,
    )
    step = make_train_step(make_gradients(objective, mesh), tx, mesh)
    step = jax.jit(step, donate_argnums=0)
    state = init_train_state({"student": init(case.student), "losses": {name: {} for name in losses}}, tx, mesh)
    shape = (1, case.rows, case.tokens)
    rows = PackedRows(
        row_ids=jnp.arange(case.rows)[None],
        epochs=jnp.zeros((1, case.rows), int),
        tokens=jax.random.randint(jax.random.key(0), shape, 1_000, VOCABULARY),
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

    def multiply():
        return jax.block_until_ready(dot(x))

    return lambda: {
        "update": seconds(update),
        "peak": 2 * size**3 / seconds(multiply),
        "memory": peak.peak_memory_bytes(),
    }


def peer(*, gathered: bool = False, compiled: bool = False, **settings: Any) -> Turn:
    """The same in PyTorch."""
    import torch
    import torch.nn.functional as F

    case = Case(**settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_default_device(device)
    teacher, student = _models(case)
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0, fused=True
    )
    ids = torch.randint(1_000, VOCABULARY, (case.rows, case.tokens))
    masked = torch.zeros(case.rows, case.tokens, dtype=torch.bool)
    for row in masked:
        row[torch.randperm(case.tokens)[: case.asked]] = True
    at = masked.flatten().nonzero().squeeze(1)
    corrupted, labels = torch.where(masked, torch.full_like(ids, MASK), ids), ids[masked]

    def scores(model: Any) -> tuple[Any, Any]:
        """(last hidden state, scores): of all tokens, or of the masked ones."""
        if not gathered:
            out = model(input_ids=corrupted, output_hidden_states=True)
            return out.hidden_states[-1], out.logits.flatten(0, 1)
        hidden = (model.bert if hasattr(model, "bert") else model.distilbert)(input_ids=corrupted).last_hidden_state
        x = hidden.flatten(0, 1).index_select(0, at)
        if hasattr(model, "bert"):
            return hidden, model.cls(x)
        return hidden, model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(x))))

    chosen = (lambda z: z) if gathered else (lambda z: z.index_select(0, at))

    def objective() -> Any:
        h_s, student_logits = scores(student)
        hard = F.cross_entropy(chosen(student_logits).float(), labels)
        if teacher is None:
            return 2 * hard
        with torch.no_grad():
            h_t, teacher_logits = scores(teacher)
        if not case.everywhere:
            student_logits, teacher_logits = chosen(student_logits), chosen(teacher_logits)
        log_q, log_p = F.log_softmax(student_logits.float() / 2, -1), F.log_softmax(teacher_logits.float() / 2, -1)
        soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * 4
        cosine = (1 - F.cosine_similarity(h_s.float(), h_t.float(), dim=-1)).mean() if case.same_width else 0.0
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

    def multiply():
        return (x @ x)[0, 0].item()

    def turn() -> dict[str, float]:
        figures = {"update": seconds(update), "peak": 2 * size**3 / seconds(multiply)}
        return figures | ({"memory": torch.cuda.max_memory_allocated()} if device == "cuda" else {})

    return turn


def _models(case: Case) -> tuple[Any, Any]:
    """(teacher or None, student)."""
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
    """Sides of one kind of update. Only masked words can be gathered."""
    settings = dataclasses.asdict(case)
    sides = [name for name in sides if not (case.everywhere and name.startswith("gathered"))]
    got = take_turns({name: Side(module="step", name=name, settings=settings) for name in sides}, repeats)
    middle = {side: statistics.median(figures["update"]) for side, figures in got.items()}
    rows = []
    for side, figures in got.items():
        peak = statistics.median(figures["peak"])
        tokens, share = case.rows * case.tokens / middle[side], case.flops / middle[side] / peak
        rows.append(
            (
                side,
                spread(figures["update"]),
                f"{tokens:,.0f}",
                f"{peak / 1e9:,.0f}",
                f"{share:.0%}",
                f"{max(figures['memory']) / 1e9:.2f}",
                f"{middle[side] / middle['ours']:.2f} ×",
            )
        )
    header = ("side", "update, s (quartiles)", "tokens/s", "its matmul peak, GFLOP/s", "share of it", "peak GB", "ours")
    faster = {side: middle[side] / middle["ours"] for side in sides if side != "ours"}
    return Table(title=f"Update: {case}", header=header, rows=rows, faster=faster)


CASES = (
    Case(),
    Case(everywhere=True),
    Case(dropout=0.1),
    Case(dtype="bfloat16"),
    Case(rows=16),
    Case(rows=16, dtype="bfloat16"),
    Case(teacher_layers=0, hidden=384, rows=32),
    Case(teacher_layers=0, hidden=384, rows=32, dtype="bfloat16"),
)
TINIEST = tuple(
    Case(hidden=12, teacher_hidden=12, teacher_layers=layers, student_layers=1, rows=1) for layers in (2, 0)
)
GPU = (
    Case(tokens=512, rows=32, dtype="bfloat16"),
    Case(tokens=512, rows=32, dtype="bfloat16", everywhere=True),
    Case(tokens=512, rows=64, hidden=384, teacher_layers=6, dtype="bfloat16"),
)
"""What is measured on a CPU, in a test, and on a GPU."""


def tables(cases: Sequence[Case] = CASES, *, sides: Sequence[str] = tuple(SIDES), repeats: int = 9) -> Iterator[Table]:
    """One for each case."""
    for case in cases:
        yield compare(case, repeats=repeats, sides=sides)
