"""Make the shards of an experiment's corpus. distill does it by itself where they are missing."""

import argparse

from distilbert_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    arguments.add_experiment_arguments(parser)
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="on the nodes of a Ray cluster, which see the same files: HOST:PORT of its head, or auto",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.config import experiment_file
    from distilbert_jax.data.shards.prepare import prepare
    from distilbert_jax.hub import load

    experiment = experiment_file.override(experiment_file.load(args.file), args.overrides)
    engine = None
    if args.cluster:
        from distilbert_jax.data.shards.ray_engine import Cluster

        engine = Cluster(args.cluster)
    prepare(experiment.corpus, load.tokenizer(experiment.start), engine)
