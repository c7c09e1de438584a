"""What a run will take, before it: memory, arithmetic, what devices exchange, the limit they set, hours and cost.
Compiles the real step and runs nothing. For the devices at hand, unless others are named.
"""

import argparse

from distilbert_jax.cli import arguments, quiet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    arguments.add_experiment_arguments(parser)
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--topology", metavar="NAME", help="TPUs, such as v5e:16x16; needs the extra tpu, but none")
    target.add_argument("--device", metavar="NAME", help="GPUs, by arithmetic alone: H200 A100 V100 …")
    parser.add_argument("--count", metavar="N", type=_parse_count, default=1, help="how many of --device (default 1)")
    parser.add_argument("--price", metavar="X", type=float, help="of one device for an hour")


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    if args.topology:
        quiet.quiet_libtpu()
    from distilbert_jax.config import experiment_file
    from distilbert_jax.performance import targets
    from distilbert_jax.performance.plan import plan

    experiment = experiment_file.override(experiment_file.load(args.file), args.overrides)
    if args.topology:
        target = targets.tpu(args.topology)
    elif args.device:
        target = targets.gpus(args.device, args.count)
    else:
        target = targets.at_hand_devices()
    plan(experiment, target, price=args.price)


def _parse_count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of devices")
    return int(text)
