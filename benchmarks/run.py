"""Runs the benchmarks, and writes a Markdown table for each and one chart of how much faster this package is.

    python benchmarks/run.py --model FOLDER --glue FOLDER    # all benchmarks: one to two hours on an idle machine
    python benchmarks/run.py --quick                    # a minute: shows that they run; the numbers mean nothing
    python benchmarks/run.py --only step --only start
    python benchmarks/run.py --gpu                      # the benchmarks for one GPU: less than 10 minutes

Tables and chart are written to benchmarks/results/, or to --output-dir. They are written after each table, so they are
kept if a later benchmark fails.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator

import finetune
import inference
import layers
import matplotlib.pyplot as plt
import prepare
import start
import step
import vocabulary
from turns import Table

Benchmarks = dict[str, Callable[[], Iterator[Table]]]
PEER_PACKAGES = {
    "step": ("torch", "transformers"),
    "inference": ("torch", "transformers", "onnx", "onnxruntime"),
    "start": ("torch", "transformers"),
    "prepare": ("transformers",),
    "finetune": ("torch", "transformers"),
}
"""The packages that a benchmark compares with, which the extra `benchmarks` installs."""

PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers", "onnxruntime")


def cpu_benchmarks(model: pathlib.Path | None, glue: pathlib.Path | None) -> Benchmarks:
    """Returns the benchmarks for a CPU. Those that need a model or a task are skipped with a message without it."""
    benchmarks: Benchmarks = {
        "vocabulary": vocabulary.tables,
        "step": step.tables,
        "layers": layers.tables,
        "inference": lambda: inference.tables(read_stsb_lengths(glue, model) if glue and model else ()),
        "start": start.tables,
    }
    if model:
        benchmarks["prepare"] = lambda: prepare.tables(str(model))
    if model and glue:
        benchmarks["finetune"] = lambda: finetune.tables(str(model), str(glue))
    else:
        print(
            "Some benchmarks are skipped: they need a model (--model FOLDER) and the files of SST-2 and STS-B "
            "(--glue FOLDER)."
        )
    return benchmarks


def quick_benchmarks(scratch: pathlib.Path) -> Benchmarks:
    """Returns all benchmarks at their smallest size.

    Compiled PyTorch and complete commands are skipped, because they take minutes.
    """
    size = {"hidden": 12, "layers": 2}
    inference.make_models(scratch, **size)
    glue = scratch / "glue" / "SST-2"
    glue.mkdir(parents=True)
    for split in ("train", "dev"):
        lines = ["sentence\tlabel", *(f"the {'old ' * (i % 9)}cat runs\t{i % 2}" for i in range(80))]
        (glue / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return {
        "vocabulary": lambda: vocabulary.tables(rows=1, tokens=2, repeats=1),
        "step": lambda: step.tables(step.TINY_CASES, sides=("ours", "plain, eager", "gathered, eager"), repeats=1),
        "layers": lambda: layers.tables(**size, sizes=((1, 4),), repeats=1),
        "inference": lambda: inference.tables(
            (5, 9), shapes=((1, 4),), **size, sides=("ours", "eager", "sdpa", "onnx"), repeats=1
        ),
        "start": lambda: start.tables(sides=("--help",), repeats=1),
        "prepare": lambda: prepare.tables(str(scratch / "student"), megabytes=1, more=(1,), repeats=1),
        "finetune": lambda: finetune.tables(str(scratch / "student"), str(glue.parent), batches=1, repeats=1),
    }


def gpu_benchmarks() -> Benchmarks:
    """Returns the benchmarks for one GPU."""
    return {
        "vocabulary": lambda: vocabulary.tables(rows=32, tokens=512, repeats=5),
        "step": lambda: step.tables(step.GPU_CASES, repeats=7),
        "layers": lambda: layers.tables(sizes=((32, 512),), repeats=5),
    }


def check_packages(names: Iterable[str]) -> None:
    """Ends the program with one line if a package that these benchmarks need is not installed."""
    needed = {package: name for name in reversed(list(names)) for package in PEER_PACKAGES.get(name, ())}
    missing = sorted(package for package in needed if importlib.util.find_spec(package) is None)
    if missing:
        sys.exit(
            f"error: the benchmark {needed[missing[0]]} needs {', '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed. Run: pip install 'distilbert_jax[benchmarks]', or "
            "choose other benchmarks with --only"
        )


def read_stsb_lengths(glue: pathlib.Path, model: pathlib.Path) -> list[int]:
    """Returns the number of tokens of each pair in the dev split of STS-B."""
    from distilbert_jax.data.tasks import registry
    from distilbert_jax.data.tokenizer import tokenizer

    backend = tokenizer.load_tokenizer(model).backend
    return [len(backend.encode(*example.texts).ids) for example in registry.find_task("stsb", glue).read("dev")]


def describe_machine() -> str:
    """Returns a line about the machine and the versions of the packages."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    return f"{os.cpu_count()} cores of {platform.machine()}, Python {platform.python_version()}, {', '.join(versions)}"


def plot(tables: list[Table], path: pathlib.Path) -> None:
    """Writes a bar chart with one bar for each comparison."""
    bars = {f"{table.title.split(',')[0]}: {side}": times for table in tables for side, times in table.faster.items()}
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.22 * len(bars)), layout="constrained")
    axes.barh(list(bars), list(bars.values()), color=["tab:blue" if x >= 1 else "tab:red" for x in bars.values()])
    axes.axvline(1.0, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("time of the other side / time of this package")
    axes.tick_params(labelsize=7)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Runs the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME", action="append", help="run only this benchmark; may be repeated")
    parser.add_argument(
        "--model", metavar="FOLDER", type=pathlib.Path, help="a BERT model: its tokenizer is used, and it is fine-tuned"
    )
    parser.add_argument(
        "--glue", metavar="FOLDER", type=pathlib.Path, help="the folder with the released files of GLUE"
    )
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        type=pathlib.Path,
        default=pathlib.Path(__file__).parent / "results",
        help="the folder for the tables and the chart (default: benchmarks/results/)",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="run everything at its smallest size, as a test")
    kind.add_argument("--gpu", action="store_true", help="run the benchmarks for one GPU")
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        benchmarks = (
            quick_benchmarks(scratch)
            if args.quick
            else gpu_benchmarks()
            if args.gpu
            else cpu_benchmarks(args.model, args.glue)
        )
        for name in args.only or ():
            if name not in benchmarks:
                parser.error(f"there is no benchmark {name!r} in this set; choose one of {', '.join(benchmarks)}")
        check_packages(args.only or benchmarks)
        tables: list[Table] = []
        for name in args.only or benchmarks:
            for table in benchmarks[name]():
                print(table, flush=True)
                tables.append(table)
                text = "\n".join([f"# Benchmarks\n\n{describe_machine()}\n", *map(str, tables)])
                (args.output_dir / "results.md").write_text(text, encoding="utf-8")
                plot(tables, args.output_dir / "results.png")


if __name__ == "__main__":
    main()
