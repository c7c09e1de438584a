"""Predict what a run will need before it starts: memory, arithmetic, communication between devices, hours and price.
The real training step is compiled and nothing is run. The plan is for this machine's devices unless others are named.
"""

import argparse
from typing import Annotated

from distilbert_jax.cli import arguments, quiet
from distilbert_jax.fields import PositiveInt, Range


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    arguments.add_experiment_arguments(parser)
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--topology", metavar="NAME", help="plan for TPUs, such as v5e:16x16; needs the extra `tpu` but no TPU"
    )
    target.add_argument(
        "--device",
        metavar="NAME",
        help="plan for GPUs from their published figures, without compiling: H200 A100 V100 …",
    )
    parser.add_argument(
        "--num-devices",
        metavar="N",
        type=arguments.number_parser(PositiveInt),
        default=1,
        help="the number of GPUs of --device (default 1)",
    )
    parser.add_argument(
        "--price-per-hour",
        metavar="X",
        type=arguments.number_parser(Annotated[float, Range(at_least=0)]),
        help="the price of one device for one hour, to compute the cost of the run",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    if args.topology:
        quiet.quiet_libtpu()
    from distilbert_jax.config import experiment_file
    from distilbert_jax.performance import targets
    from distilbert_jax.performance.plan import plan

    experiment = experiment_file.apply_overrides(experiment_file.load_experiment(args.file), args.overrides)
    if args.topology:
        target = targets.tpu_target(args.topology)
    elif args.device:
        target = targets.gpu_target(args.device, args.num_devices)
    else:
        target = targets.local_target()
    plan(experiment, target, price=args.price_per_hour)
