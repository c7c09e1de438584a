"""Defines every number that a run logs: its key, its unit and its meaning.

These are the keys of the lines of log.jsonl, of the scalars in TensorBoard, and of the two evaluations in results.json.
Code that writes or reads such a number takes its key from here. docs/log_keys.md shows them as a table, which
`format_log_keys` makes.
"""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class LogKey:
    """The key of one logged number."""

    name: str
    unit: str  # "" if the number has none
    meaning: str  # one sentence


@dataclasses.dataclass(frozen=True)
class LogKeyFamily:
    """The keys of numbers that are logged once for each loss, or for each split and metric.

    `pattern` is the key with a field in braces for each part that differs, such as "loss/{loss}".
    """

    pattern: str
    unit: str  # "" if the numbers have none
    meaning: str  # one sentence

    def name(self, **parts: str) -> str:
        """Returns the key of one number: `LOSS_MEAN.name(loss="soft")` is "loss/soft"."""
        return self.pattern.format(**parts)

    def match(self, key: str) -> dict[str, str] | None:
        """Returns the parts of a key of this family, or None if `key` belongs to another one."""
        matched = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>.+)", self.pattern), key)
        return matched.groupdict() if matched else None


# A training step

LOSS = LogKey("loss", "", "The training objective: the sum of the losses, each times its weight.")
LOSS_MEAN = LogKeyFamily(
    "loss/{loss}",
    "",
    "The weighted mean of one loss over the global batch, before its weight; if fine-tuning reads texts in windows, "
    "the weighted sum over the batch, divided by the mean number of texts in a step.",
)
LOSS_SHARE = LogKeyFamily("loss_share/{loss}", "fraction", "The part of the objective that one loss contributes.")
GRAD_NORM = LogKey("grad_norm", "", "The L2 norm of the gradient of all trained parameters, before clipping.")
LEARNING_RATE = LogKey("learning_rate", "", "The learning rate of the step.")
NONFINITE_STEPS = LogKey(
    "nonfinite_steps",
    "steps",
    "How many updates have been skipped since the start of the run because a loss, a metric or the gradient was NaN or "
    "infinite.",
)
LOSS_SCALE = LogKey("loss_scale", "", "The factor that the losses are multiplied by; in float16 only.")
LOSS_SCALE_OVERFLOWS = LogKey(
    "loss_scale_overflows",
    "steps",
    "How many updates have been skipped since the start of the run because the loss scale was too large; in float16 "
    "only.",
)

# The speed of training, since the previous logged step

TOKENS_PER_SECOND = LogKey("tokens_per_second", "tokens/s", "Tokens of all processes per second, padding included.")
DATA_WAIT_FRACTION = LogKey("data_wait_fraction", "fraction", "The part of the time that the run waited for batches.")
PADDING_FRACTION = LogKey("padding_fraction", "fraction", "The part of all tokens that is padding.")
MFU = LogKey(
    "mfu",
    "fraction",
    "Model FLOPs utilization: the floating-point operations that an update requires, per second, over the peak of all "
    "devices.",
)
MFU_ALL_POSITIONS = LogKey(
    "mfu_all_positions",
    "fraction",
    "The same for an update that would compute the logits of student and teacher at every position.",
)
PEAK_MEMORY_BYTES = LogKey(
    "peak_memory_bytes",
    "bytes",
    "The most memory that any device of the first process has held so far; on a CPU, that of the process itself.",
)

# An evaluation on held-out rows

MASKED_TOKENS = LogKey("masked_tokens", "tokens", "How many masked tokens of held-out rows were predicted.")
ROWS = LogKey("rows", "rows", "How many held-out rows were read.")
ACCURACY = LogKey("accuracy", "fraction", "The part of the masked tokens that the student predicts correctly.")
ACCURACY_STDERR = LogKey("accuracy_stderr", "fraction", "The standard error of `accuracy`.")
CROSS_ENTROPY = LogKey("cross_entropy", "nats/token", "The student's mean cross entropy over the masked tokens.")
PERPLEXITY = LogKey("perplexity", "", "The exponential of `cross_entropy`.")
TEACHER_ACCURACY = LogKey("teacher_accuracy", "fraction", "The part that the teacher predicts correctly.")
TEACHER_ACCURACY_STDERR = LogKey("teacher_accuracy_stderr", "fraction", "The standard error of `teacher_accuracy`.")
TEACHER_CROSS_ENTROPY = LogKey(
    "teacher_cross_entropy",
    "nats/token",
    "The teacher's mean cross entropy over the masked tokens, those of the batch in a training step.",
)
TEACHER_PERPLEXITY = LogKey("teacher_perplexity", "", "The exponential of `teacher_cross_entropy`.")
TEACHER_ENTROPY = LogKey(
    "teacher_entropy",
    "nats/token",
    "The mean entropy of the teacher's predicted distributions over the same masked tokens.",
)
TEACHER_AGREEMENT = LogKey(
    "teacher_agreement",
    "fraction",
    "Top-1 agreement: the part of the masked tokens for which student and teacher predict the same token.",
)
TEACHER_AGREEMENT_STDERR = LogKey("teacher_agreement_stderr", "fraction", "The standard error of `teacher_agreement`.")
TEACHER_KL = LogKey(
    "teacher_kl",
    "nats/token",
    "The mean Kullback–Leibler divergence KL(teacher ‖ student) over the masked tokens, at temperature 1.",
)

# An evaluation of a model that is being fine-tuned

MAIN_SCORE = LogKey(
    "main_score", "per cent", "The main metric of the task, averaged over its dev splits; it chooses the best epoch."
)
TASK_SCORE = LogKeyFamily(
    "{split}/{metric}", "per cent", "One metric on one dev split. The threshold of squad2 is a difference of logits."
)


STDERR = {
    ACCURACY: ACCURACY_STDERR,
    TEACHER_ACCURACY: TEACHER_ACCURACY_STDERR,
    TEACHER_AGREEMENT: TEACHER_AGREEMENT_STDERR,
}
"""The key of the standard error of each fraction of the masked tokens."""

PERPLEXITIES = {CROSS_ENTROPY: PERPLEXITY, TEACHER_CROSS_ENTROPY: TEACHER_PERPLEXITY}
"""The key of the perplexity that belongs to each cross entropy."""


SPEED_KEYS = (TOKENS_PER_SECOND, DATA_WAIT_FRACTION, PADDING_FRACTION, MFU, MFU_ALL_POSITIONS, PEAK_MEMORY_BYTES)
"""Numbers that depend on the machine and not only on the experiment."""

TRAIN_KEYS = (
    LOSS,
    LOSS_MEAN,
    LOSS_SHARE,
    TEACHER_CROSS_ENTROPY,
    TEACHER_ENTROPY,
    GRAD_NORM,
    LEARNING_RATE,
    NONFINITE_STEPS,
    LOSS_SCALE,
    LOSS_SCALE_OVERFLOWS,
    *SPEED_KEYS,
)
EVAL_KEYS = (
    MASKED_TOKENS,
    ROWS,
    ACCURACY,
    ACCURACY_STDERR,
    CROSS_ENTROPY,
    PERPLEXITY,
    TEACHER_ACCURACY,
    TEACHER_ACCURACY_STDERR,
    TEACHER_CROSS_ENTROPY,
    TEACHER_PERPLEXITY,
    TEACHER_ENTROPY,
    TEACHER_AGREEMENT,
    TEACHER_AGREEMENT_STDERR,
    TEACHER_KL,
)
FINETUNE_EVAL_KEYS = (MAIN_SCORE, TASK_SCORE)

_PREAMBLE = """# Log keys

Every line of log.jsonl is a JSON object. `kind` is "train" or "eval", and `step` counts updates from 1; the evaluation
before the first update has step 0. All other keys are listed here. TensorBoard shows the same numbers as `train/KEY`
and `eval/KEY`, and results.json holds the first and the last evaluation as `initial` and `final`. Keys that begin with
`teacher_` are written only if the run has a teacher. A number that is NaN or infinite is `null` in log.jsonl and left
out of TensorBoard.

Speed, from `tokens_per_second` to `mfu_all_positions`, is measured since the previous logged step. The first step after
a start includes compilation and is logged without these keys and without `peak_memory_bytes`.
"""

_SECTIONS = {
    "A training step": TRAIN_KEYS,
    "An evaluation on held-out rows": EVAL_KEYS,
    "An evaluation during fine-tuning": FINETUNE_EVAL_KEYS,
}


def format_log_keys() -> str:
    """Returns the text of docs/log_keys.md."""
    lines = [_PREAMBLE]
    for title, keys in _SECTIONS.items():
        lines += [f"## {title}\n", "| key | unit | meaning |", "|---|---|---|"]
        lines += [f"| `{_format_name(key)}` | {key.unit or '—'} | {key.meaning} |" for key in keys]
        lines.append("")
    return "\n".join(lines)


def find(key: str, keys: tuple[LogKey | LogKeyFamily, ...]) -> LogKey | LogKeyFamily | None:
    """Returns the definition among `keys` that a key in a log belongs to, or None."""
    for candidate in keys:
        if candidate.name == key if isinstance(candidate, LogKey) else candidate.match(key):
            return candidate
    return None


def _format_name(key: LogKey | LogKeyFamily) -> str:
    """Returns a key as the table shows it, with the fields of a family in capitals: loss/LOSS."""
    if isinstance(key, LogKey):
        return key.name
    return re.sub(r"\{(\w+)\}", lambda part: part[1].upper(), key.pattern)
