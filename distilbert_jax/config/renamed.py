"""Names of earlier versions, so that an old config key or flag gets an error that says the new name.

Nothing here is an alias: an old name is an error. The module can be removed in version 0.2.0.
"""

from collections.abc import Collection

NEW_KEYS: dict[str, tuple[str, ...]] = {
    "asked": ("all",),
    "bad_steps_allowed": ("max_nonfinite_steps",),
    "batch": ("batch_size",),
    "clip_norm": ("max_grad_norm",),
    "erf": ("gelu",),
    "examples": ("max_train_examples",),
    "folder": ("shard_dir", "name_or_path", "task_dir"),
    "gelu": ("activation",),
    "global_batch": ("global_batch_size",),
    "keep": ("keep_checkpoints",),
    "labelled": ("masked",),
    "max_tokens": ("max_positions",),
    "nothing": ("none",),
    "peak_lr": ("learning_rate",),
    "projection_dropout": ("attention_output_dropout",),
    "random_start": ("random_init",),
    "row_length": ("sequence_length",),
    "rows_per_device": ("per_device_batch_size",),
    "shape": ("config",),
    "share": ("mask_rate",),
    "start": ("init_from",),
    "tanh": ("gelu_tanh",),
    "warmup": ("warmup_ratio",),
    "windows": ("window_overlap",),
}
"""Old config key or value -> its new name; where an old name had several meanings, one for each."""

NEW_FLAGS = {
    "--cluster": "--ray-address",
    "--count": "--num-devices",
    "--into": "--output-dir",
    "--loss": "--hidden-loss",
    "--price": "--price-per-hour",
    "--process": "--distributed",
    "--threshold": "--no-answer-threshold",
    "--windows": "--window-overlap",
}
"""Old flag of the command line -> new flag."""


def find_new_key(old: str, choices: Collection[str]) -> str | None:
    """Returns the one of `choices` that the config key or value `old` is called now, or None."""
    return next((new for new in NEW_KEYS.get(old, ()) if new in choices), None)


def find_new_flag(old: str) -> str | None:
    """Returns the new name of a flag such as `--into` or `--into=DIR`, or None."""
    return NEW_FLAGS.get(old.partition("=")[0])
