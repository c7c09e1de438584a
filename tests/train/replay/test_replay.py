"""A step that turned, on the real command: the run stops or leaves it out, and `replay` names loss, layer and row."""

import contextlib
import dataclasses
import io
import json
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from distilbert_jax.cli.main import main
from distilbert_jax.config import experiment_file
from distilbert_jax.data import batches
from distilbert_jax.data.shards.prepare import prepare
from distilbert_jax.hub import load
from distilbert_jax.hub.smoke import make_smoke_experiment
from distilbert_jax.io import files
from distilbert_jax.runtime import metrics_log
from tests.conftest import ROOT
from tests.reliability.harness import arrays

QUICKSTART = str(ROOT / "experiments" / "quickstart.py")
SMALL = (
    *(
        "steps=8",
        "per_device_batch_size=1",
        "checkpoint_every=1",
        "keep_checkpoints=9",
        "eval_every=99",
        "log_every=99",
    ),
)
LOST = "grad_norm, loss, loss/odd"

ODD = '''
"""The quickstart with a loss that is NaN for some rows of the corpus, in the first epoch."""

import dataclasses

import jax.numpy as jnp

from distilbert_jax.config import experiment_file
from distilbert_jax.losses.base import Loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Odd(Loss):
    rows: tuple[int, ...]

    def weights(self, batch):
        return batch.token_mask.astype(jnp.float32)

    def values(self, params, student, teacher):
        bad = sum(student.batch.row_ids == row for row in self.rows) * (student.batch.epochs == 0) > 0
        return jnp.where(bad[:, None], jnp.nan, 1.0) * jnp.square(student.hidden_states[-1]).mean(-1)


def experiment():
    quickstart = experiment_file.load_experiment(FILE)
    student = dataclasses.replace(quickstart.student, layers=(0, 1))
    return dataclasses.replace(quickstart, student=student, losses={**quickstart.losses, "odd": Odd(rows=ROWS)})
'''


def command(*words):
    """(exit status, all that stood on the screen, in one line)."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main([str(word) for word in words])
    assert "Traceback" not in said.getvalue()
    return status, " ".join(said.getvalue().split())


def rows_of(folder, step):
    """The corpus rows of a step, [accumulation, b], of the smoke run that stands in `folder`."""
    experiment = make_smoke_experiment(experiment_file.load_experiment(QUICKSTART), folder)
    with contextlib.redirect_stdout(io.StringIO()):
        prepared = prepare(experiment.corpus, load.load_tokenizer(experiment.student_source))
        shards = batches.Shards(prepared.folder, prepared.shards["train"])
    layout = batches.BatchLayout(accumulation=2, rows=8)
    return batches.Batches(shards=shards, seed=0, steps=8, layout=layout)[step - 1]["row_ids"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Told:
    """A run of eight steps, the third and the sixth of which turn: its folder, the rows that did it, and what each of
    the commands said.
    """

    folder: pathlib.Path
    file: pathlib.Path
    rows: tuple[int, int]
    stopped: str
    at_first: str
    again: str
    finished: str


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    rows = int(rows_of(folder, 3)[1, 4]), int(rows_of(folder, 6)[0, 2])
    file = folder / "odd.py"
    file.write_text(ODD.replace("FILE", repr(QUICKSTART)).replace("ROWS", repr(rows)))

    def distill(allowed):
        """The same command, but for the bad steps that are allowed."""
        return command(*("distill", file, "--smoke", folder, *SMALL, f"max_nonfinite_steps={allowed}"))

    statuses, said = zip(*[distill(allowed) for allowed in (0, 1, 1, 2)], strict=True)
    assert statuses == (1, 1, 1, 0), said
    names = ("stopped", "at_first", "again", "finished")
    return Told(folder=folder / "run", file=file, rows=rows, **dict(zip(names, said, strict=True)))


def state_at(run, step):
    return arrays(run / "checkpoints" / str(step))


def everything(folder):
    """Every name under a folder, and the hash of every file."""
    return {path: path.is_file() and files.sha256(path) for path in sorted(folder.rglob("*"))}


def test_a_step_that_turns_stops_the_run_naming_the_replay(told, figures):
    assert f"error: step 3: {LOST} became nan. The update was skipped. " in told.stopped
    assert f"The last good checkpoint is {told.folder}/checkpoints/2, and the same command" in told.stopped
    assert (
        f"first, run: python -m distilbert_jax replay {told.folder} 3. If it happens again, lower opt" in told.stopped
    )
    assert "raise max_nonfinite_steps" in told.stopped
    figures("test_a_step_that_turns_stops_the_run_naming_the_replay", "stopped at step 3, the step that turned")


def test_an_allowed_one_is_left_out_aloud_and_the_state_stays(told):
    assert "Resuming from step 2" in told.at_first
    assert f"step 3: {LOST} became nan. The update was skipped: 1 of the 1 steps that" in told.at_first
    before, after, later = (state_at(told.folder, step) for step in (2, 3, 4))
    assert (before["nonfinite_steps"], after["nonfinite_steps"]) == (0, 1)
    assert (before["step"], after["step"]) == (2, 3)
    for part in ("params", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, before[part], after[part])
    moved = jax.tree.map(lambda a, b: (a != b).any(), after["params"]["student"], later["params"]["student"])
    assert any(jax.tree.leaves(moved))


def test_the_bound_holds_over_resumes(told, figures):
    """The checkpoint of step 5 knows of the first: another is one too many, however often the run is started anew."""
    assert f"error: step 6: {LOST} became nan" in told.at_first
    assert "Resuming from step 5" in told.again
    assert f"error: step 6: {LOST} became nan" in told.again
    assert "2 of the 2 steps that max_nonfinite_steps allows" in told.finished
    assert state_at(told.folder, 8)["nonfinite_steps"] == 2
    assert (told.folder / "export" / "model.safetensors").is_file()
    figures("test_the_bound_holds_over_resumes", "2 of 8 steps left out, over 3 resumes")


def test_the_log_of_a_step_left_out_is_json(told):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    lines = (told.folder / "log.jsonl").read_text().splitlines()
    entries = {
        entry["step"]: entry for entry in (json.loads(x, parse_constant=refuse) for x in lines) if "loss" in entry
    }
    assert {step: entry["nonfinite_steps"] for step, entry in entries.items()} == {1: 0, 3: 1, 6: 2}
    assert entries[3]["loss"] is entries[3]["loss/odd"] is None
    assert entries[3]["loss/hard"] > 0
    assert np.isnan(metrics_log.read_log(told.folder, "train")[1]["loss"])


def test_replay_names_the_loss_the_micro_batch_and_the_row_and_changes_nothing(told, figures):
    before = everything(told.folder.parent)
    status, said = command("replay", told.folder, 3)
    assert status == 0
    assert "Starting from the checkpoint of step 2." in said
    assert said.endswith(
        "step 3: the loss odd became non-finite first; every hidden state is finite, from the embeddings to the head. "
        "Affected rows: 1 of 16; the first one is in micro-batch 2 of 2, "
        f"row {told.rows[0]} of the corpus."
    )
    assert "loss/odd │ nan │ 1 of 16" in said
    assert f"row {told.rows[0]}: " in said
    assert everything(told.folder.parent) == before
    figures(
        "test_replay_names_the_loss_the_micro_batch_and_the_row_and_changes_nothing",
        f"1 row of 16, of 4 losses 1; {len(before)} files and folders as before",
    )


def test_replay_of_a_healthy_step_says_so(told):
    status, said = command("replay", told.folder, 7)
    assert status == 0
    assert "Starting from the checkpoint of step 6." in said
    assert "Step 7: the update is applied" in said
    assert said.endswith("step 7: every loss, hidden state and gradient is finite.")


def test_replay_runs_to_the_step_where_no_checkpoint_is_near(told, tmp_path):
    """The only one before it is damaged, and stays as it is; those after the step are no help. The run is said to have
    been moved, too.
    """
    run = shutil.copytree(told.folder, tmp_path / "moved")
    shutil.rmtree(run / "checkpoints" / "1")
    (run / "checkpoints" / "1.sha256").unlink()
    next((run / "checkpoints" / "2").rglob("manifest.ocdbt")).unlink()
    before = everything(run)
    status, said = command("replay", run, 3)
    assert status == 0
    assert f"Checkpoint {run}/checkpoints/2 is skipped: " in said
    assert "Starting from the initial state, because there is no checkpoint before step 3." in said
    assert f"micro-batch 2 of 2, row {told.rows[0]} of the corpus" in said
    assert everything(run) == before


def test_what_cannot_be_replayed(told, tmp_path):
    def refused(*words):
        status, said = command("replay", *words)
        assert status == 1
        return said

    assert f"The run {told.folder} has no step 9. Choose a step from 1 to 8." in refused(told.folder, 9)
    with pytest.raises(SystemExit, match="^2$"):
        command("replay", told.folder, 0)
    assert f"{tmp_path} has no command.json: it is not the folder of a run" in refused(tmp_path, 3)
    with files.lock_folder(told.folder):
        assert f"{told.folder} is in use by another process" in refused(told.folder, 3)

    run = shutil.copytree(told.folder, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    kept = json.loads((run / "command.json").read_text())
    changed = tmp_path / "changed.py"
    changed.write_text(told.file.read_text().replace(repr(told.rows), "(0, 1)"))
    (run / "command.json").write_text(json.dumps(kept | {"file": str(changed)}))
    said = refused(run, 3)
    assert (
        f"{changed} now gives another experiment than the run {run} had; restore the file to replay the run: "
        f"losses.odd.rows: {list(told.rows)} before, [0, 1] now" in said
    )
    unchanged_config = told.file.read_text() + "# A comment.\n"
    (tmp_path / told.file.name).write_text(unchanged_config)
    (run / "command.json").write_text(json.dumps(kept | {"file": str(tmp_path / told.file.name)}))
    assert f"the code of the experiment has changed since the run in {run} began: {told.file.name}." in refused(run, 3)
    status, said = command("replay", run, 3, "--changed-code")
    assert status == 0
    assert f"row {told.rows[0]} of the corpus" in said
    (run / "command.json").write_text(json.dumps(kept | {"typed_in": str(tmp_path / "gone")}))
    assert f"distill was run in {tmp_path}/gone, which no longer exists." in refused(run, 3)


OVERFLOWING = """
import dataclasses
import pathlib
import re

from distilbert_jax.config import experiment_file
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.hub.smoke import make_smoke_experiment


def experiment():
    tiny = make_smoke_experiment(experiment_file.load_experiment(FILE), pathlib.Path(FOLDER))
    return dataclasses.replace(tiny, student=dataclasses.replace(tiny.student, init_from=Pretrained(START)))
"""


def test_replay_names_the_layer_that_overflows(told, tmp_path, figures):
    """Scores of 1e30 · 1e30 in the student's layer 1, at the very first step: there is no checkpoint."""
    start = shutil.copytree(told.folder.parent / "teacher", tmp_path / "start")
    tensors = safetensors.numpy.load_file(start / "model.safetensors")
    for name in ("query", "key"):
        tensors[f"bert.encoder.layer.1.attention.self.{name}.weight"] *= np.float32(1e30)
    safetensors.numpy.save_file(tensors, start / "model.safetensors")
    file = tmp_path / "overflowing.py"
    text = OVERFLOWING.replace("FILE", repr(str(told.file))).replace("FOLDER", repr(str(tmp_path / "smoke")))
    file.write_text(text.replace("START", repr(str(start))))
    status, said = command("distill", file, *SMALL)  # as the others, so that nothing is compiled again
    assert status == 1
    assert "There is no checkpoint yet, so the same command starts again from step 0. To find the loss and" in said
    assert f"python -m distilbert_jax replay {tmp_path}/smoke/run 1." in said
    status, said = command("replay", tmp_path / "smoke" / "run", 1)
    assert status == 0
    assert (
        "step 1: layer 1 of the student became non-finite first; then these became non-finite: soft, hard, cosine, "
        "odd. Affected rows: 16 of 16;" in said
    )
    assert re.search(r"student layer 0 │ 0\.\d+ │ 0\.\d+ │ nan", said)
    assert re.search(r"student layer 1 │ \d\.\d+e\+", said)
    figures("test_replay_names_the_layer_that_overflows", "layer 1 of 2")
