"""Prepare the corpus of an experiment: tokenize its text and write the shards. distill does this by itself when the
shards are missing.
"""

import argparse

from distilbert_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    arguments.add_experiment_arguments(parser)
    parser.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        type=arguments.parse_ray_address,
        help="prepare on the nodes of a Ray cluster that see the same files: HOST:PORT of its head node, or auto",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.config import experiment_file
    from distilbert_jax.data.shards.prepare import prepare
    from distilbert_jax.hub import load

    experiment = experiment_file.apply_overrides(experiment_file.load_experiment(args.file), args.overrides)
    engine = None
    # Ray is an extra of the package, so its engine is imported only if it is used.
    if args.ray_address:
        from distilbert_jax.data.shards.ray_engine import RayEngine

        engine = RayEngine(args.ray_address)
    prepare(experiment.corpus, load.load_tokenizer(experiment.student_source), engine)
