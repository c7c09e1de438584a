"""Every benchmark in one go: a Markdown table of each, and one picture of how many times faster ours is.

    python benchmarks/run.py --model FOLDER --glue FOLDER    # an hour or two, on an otherwise idle machine
    python benchmarks/run.py --quick                    # a minute: that it runs, no figures worth reading
    python benchmarks/run.py --only step --only start
    python benchmarks/run.py --gpu                      # what is worth asking of one GPU, under 10 minutes

Tables and the picture are written to benchmarks/results/, or to --output-dir. Results that were measured are kept if a
later benchmark fails.
"""

import argparse
import importlib.metadata
import os
import pathlib
import platform
import tempfile
from collections.abc import Callable, Iterator

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
PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers", "onnxruntime")


def whole(model: pathlib.Path | None, glue: pathlib.Path | None) -> Benchmarks:
    """On a CPU. What needs a real model or task is left out without it, and a line says so."""
    benchmarks: Benchmarks = {
        "vocabulary": vocabulary.tables,
        "step": step.tables,
        "layers": layers.tables,
        "inference": lambda: inference.tables(lengths_of_stsb(glue, model) if glue and model else ()),
        "start": start.tables,
    }
    if model:
        benchmarks["prepare"] = lambda: prepare.tables(str(model))
    if model and glue:
        benchmarks["finetune"] = lambda: finetune.tables(str(model), str(glue))
    else:
        print("left out: what needs a tokenizer (--model FOLDER) and the files of SST-2 and STS-B (--glue FOLDER)")
    return benchmarks


def quick(scratch: pathlib.Path) -> Benchmarks:
    """All of it at its smallest, but for what PyTorch compiles, and whole commands: they take minutes."""
    size = {"hidden": 12, "layers": 2}
    inference.make_models(scratch, **size)
    glue = scratch / "glue" / "SST-2"
    glue.mkdir(parents=True)
    for split in ("train", "dev"):
        lines = ["sentence\tlabel", *(f"the {'old ' * (i % 9)}cat runs\t{i % 2}" for i in range(80))]
        (glue / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return {
        "vocabulary": lambda: vocabulary.tables(rows=1, tokens=2, repeats=1),
        "step": lambda: step.tables(step.TINIEST, sides=("ours", "plain, eager", "gathered, eager"), repeats=1),
        "layers": lambda: layers.tables(**size, sizes=((1, 4),), repeats=1),
        "inference": lambda: inference.tables(
            (5, 9), shapes=((1, 4),), **size, sides=("ours", "eager", "sdpa", "onnx"), repeats=1
        ),
        "start": lambda: start.tables(sides=("--help",), repeats=1),
        "prepare": lambda: prepare.tables(str(scratch / "student"), megabytes=1, more=(1,), repeats=1),
        "finetune": lambda: finetune.tables(str(scratch / "student"), str(glue.parent), batches=1, repeats=1),
    }


def on_a_gpu() -> Benchmarks:
    """What a GPU is asked."""
    return {
        "vocabulary": lambda: vocabulary.tables(rows=32, tokens=512, repeats=5),
        "step": lambda: step.tables(step.GPU, repeats=7),
        "layers": lambda: layers.tables(sizes=((32, 512),), repeats=5),
    }


def lengths_of_stsb(glue: pathlib.Path, model: pathlib.Path) -> list[int]:
    """Tokens of each pair of the development set."""
    from distilbert_jax.data.tasks import registry
    from distilbert_jax.data.tokenizer import tokenizer

    words = tokenizer.load_tokenizer(model).backend
    return [len(words.encode(*example.texts).ids) for example in registry.find_task("stsb", glue).read("dev")]


def machine() -> str:
    """A line about where this ran."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    return f"{os.cpu_count()} cores of {platform.machine()}, Python {platform.python_version()}, {', '.join(versions)}"


def picture(tables: list[Table], path: pathlib.Path) -> None:
    """One bar for each comparison."""
    bars = {f"{table.title.split(',')[0]}: {side}": times for table in tables for side, times in table.faster.items()}
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.22 * len(bars)), layout="constrained")
    axes.barh(list(bars), list(bars.values()), color=["tab:blue" if x >= 1 else "tab:red" for x in bars.values()])
    axes.axvline(1.0, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("time of the other side / time of ours")
    axes.tick_params(labelsize=7)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Runs the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME", action="append", help="this one; may be repeated")
    parser.add_argument("--model", metavar="FOLDER", type=pathlib.Path, help="whose tokenizer is used, and fine-tuned")
    parser.add_argument("--glue", metavar="FOLDER", type=pathlib.Path, help="GLUE as it was released")
    parser.add_argument(
        "--output-dir", metavar="DIR", type=pathlib.Path, default=pathlib.Path(__file__).parent / "results"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true")
    kind.add_argument("--gpu", action="store_true")
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        benchmarks = quick(scratch) if args.quick else on_a_gpu() if args.gpu else whole(args.model, args.glue)
        for name in args.only or ():
            if name not in benchmarks:
                parser.error(f"no benchmark {name!r} here: choose of {', '.join(benchmarks)}")
        found: list[Table] = []
        for name in args.only or benchmarks:
            for table in benchmarks[name]():
                print(table, flush=True)
                found.append(table)
                text = "\n".join([f"# Benchmarks\n\n{machine()}\n", *map(str, found)])
                (args.output_dir / "results.md").write_text(text, encoding="utf-8")
                picture(found, args.output_dir / "results.png")


if __name__ == "__main__":
    main()
