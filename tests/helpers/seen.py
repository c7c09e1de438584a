"""What a run sees: every token and mask of its first steps, the loss and the gradient of each. Called by
test_topology.py, here and in processes of their own:

    python -m tests.helpers.seen EXPERIMENT.py RESULT.npz I/N@HOST:PORT
"""

import sys

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec as P

from distilbert_jax.config import experiment_file
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.devices import processes
from distilbert_jax.devices.mesh import ROW_AXES
from distilbert_jax.train.distill.inputs import load_inputs
from distilbert_jax.train.distill.setup import make_corpus_masking, setup_distillation
from distilbert_jax.train.objective import MASKING_KEY, row_keys

STEPS = 3
FIELDS = (
    "row_ids",
    "epochs",
    "tokens",
    "segment_ids",
    "positions",
    "predict_positions",
    "prediction_weights",
    "label_weights",
    "labels",
)


def seen(experiment: Experiment, *, learns: bool = True) -> dict[str, np.ndarray]:
    """{field: [step, row of the global batch, …], in the order of the corpus rows}; with it the metrics and the
    gradient of each step, where it `learns`.
    """
    inputs = load_inputs(experiment)
    run = setup_distillation(experiment, inputs)
    ask = make_corpus_masking(inputs.corpus, experiment.masking, all_positions=experiment.needs_all_positions)

    def of_all(rows):
        return jax.vmap(lambda r: ask(row_keys(experiment.seed, r, MASKING_KEY), r))(rows)

    over_rows = P(None, ROW_AXES)
    masked = jax.jit(jax.shard_map(of_all, mesh=run.mesh, in_specs=over_rows, out_specs=over_rows, check_vma=False))
    steps = []
    for number in range(STEPS):
        rows = run.put_batch(run.batches[number])
        found = in_order(multihost_utils.process_allgather(masked(rows), tiled=True))
        if learns:
            gradient, metrics = run.compute_gradients(run.state.params, run.teachers, rows)
            found |= {name: np.asarray(value) for name, value in metrics.items()}
            found["gradient"] = np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)])
        steps.append(found)
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}


def in_order(batch):
    """{field: [row of the global batch, …]}, whichever device a row fell on."""
    flat = {name: np.asarray(getattr(batch, name)) for name in FIELDS}
    flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in flat.items()}
    order = np.argsort(flat["row_ids"], kind="stable")
    return {name: x[order] for name, x in flat.items()}


if __name__ == "__main__":
    experiment_path, result, where = sys.argv[1:]
    processes.init_distributed(where)
    with processes.ProcessGroup() as others:
        found = seen(experiment_file.load_experiment(experiment_path))
        if processes.is_first():
            np.savez(result, **found)
