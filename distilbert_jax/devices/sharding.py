"""Parameters that are divided over the mesh, and gathered where they are used.

For the mesh axis `fsdp`, this module gathers and sums explicitly: the student is gathered once for each update, and its
gradient is summed once for each update, of which each device keeps its own part. A teacher is gathered in every
micro-batch, layer by layer as the computation reaches them, and released again. For the mesh axis `tensor`, XLA inserts
the communication: it derives from the sharding of the parameters what each device multiplies (Xu et al., 2021).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from distilbert_jax.devices.mesh import DATA, FSDP, ROW_AXES, TENSOR, AnyMesh
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.types import Batch, PackedRows

SHARDING_RULES = {
    "words/embedding": P(TENSOR, FSDP),
    "positions/embedding": P(None, FSDP),
    "query/kernel": P(FSDP, TENSOR, None),
    "key/kernel": P(FSDP, TENSOR, None),
    "value/kernel": P(FSDP, TENSOR, None),
    "query/bias": P(TENSOR, None),
    "key/bias": P(TENSOR, None),
    "value/bias": P(TENSOR, None),
    "out/kernel": P(TENSOR, None, FSDP),
    "up/kernel": P(FSDP, TENSOR),
    "up/bias": P(TENSOR),
    "down/kernel": P(TENSOR, FSDP),
    "transform/kernel": P(FSDP, None),
}
"""How parameters are divided, by the end of their path. An optimizer's moments have the same paths, so the same rules
hold for them. A parameter without a rule is small, and every device holds all of it.
"""


def check_divisible(config: TransformerConfig, mesh: AnyMesh, *, role: str) -> None:
    """Checks that the layers of a model can be divided over the devices.

    Args:
        config: the model's configuration.
        mesh: the mesh of the run.
        role: the model's part in the run, "student" or the name of a teacher, for the error message.

    Raises:
        ValueError: if `fsdp` does not divide the hidden size, or `tensor` the number of attention heads.
    """
    for axis, name, size in ((FSDP, "hidden_size", config.hidden_size), (TENSOR, "num_heads", config.num_heads)):
        if size % mesh.shape[axis]:
            raise ValueError(
                f"{axis}={mesh.shape[axis]} does not divide the {role}'s {name}, {size}: choose a divisor of {size}"
            )


def partition_specs(tree: Any, mesh: AnyMesh) -> Any:
    """Returns the partition spec of every leaf of a tree of parameters or optimizer state.

    An axis of a parameter that its devices cannot divide evenly is not divided, such as a vocabulary of 30,522 over
    four devices.
    """

    def per_leaf(path: Any, x: Any) -> P:
        rule = SHARDING_RULES.get(jax.tree_util.keystr(path[-2:], simple=True, separator="/"), P())
        if len(rule) != len(x.shape):
            return P()
        return P(*(axis if divides(axis, size) else None for axis, size in zip(rule, x.shape, strict=True)))

    def divides(axis: str | None, size: int) -> bool:
        return axis is not None and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0

    return jax.tree_util.tree_map_with_path(per_leaf, tree)


def make_shardings(tree: Any, mesh: Mesh) -> Any:
    """Returns the sharding on `mesh` of every leaf of a tree of parameters or optimizer state."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), partition_specs(tree, mesh))


@dataclasses.dataclass(frozen=True)
class ShardedTree:
    """A tree as one device holds it inside `shard_map`: of the leaves that are divided over `fsdp`, only its part.

    Attributes:
        parts: the tree of the device's parts.
        specs: the partition spec of each leaf; those with FSDP are divided.
    """

    parts: Any
    specs: Any

    def gather(self) -> Any:
        """Returns the complete tree, gathered from all devices along `fsdp`."""

        def per_leaf(x: jax.Array, spec: P) -> jax.Array:
            return jax.lax.all_gather(x, FSDP, axis=spec.index(FSDP), tiled=True) if FSDP in spec else x

        return jax.tree.map(per_leaf, self.parts, self.specs)

    def gather_with(self, x: Any) -> tuple[Any, Any]:
        """Returns (the complete tree, `x`), gathered only once `x` is there.

        Call it inside a loop, with an `x` that changes. Without the barrier, XLA would gather the tree before the loop
        and hold all of it until the end.
        """
        if not any(FSDP in spec for spec in jax.tree.leaves(self.specs)):
            return self.parts, x
        parts, x = jax.lax.optimization_barrier((self.parts, x))
        return ShardedTree(parts, self.specs).gather(), x

    def reduce_scatter(self, tree: Any) -> Any:
        """Sums a tree over the devices; this device keeps the part that it holds of this tree.

        Args:
            tree: values in the shapes of the complete tree, such as the gradient of this device's rows.
        """

        def per_leaf(x: jax.Array, spec: P) -> jax.Array:
            if FSDP not in spec:
                return sum_over_devices(x)
            return _sum(jax.lax.psum_scatter(x, FSDP, scatter_dimension=spec.index(FSDP), tiled=True), (DATA,))

        return jax.tree.map(per_leaf, tree, self.specs)


def sum_over_devices(x: Any) -> Any:
    """Sums a tree over the devices that rows are divided over."""
    return _sum(x, ROW_AXES)


def _sum(x: Any, axes: tuple[str, ...]) -> Any:
    """Sums a tree over axes of the mesh. Axes of size 1 are left out, which saves a copy of every gradient."""
    axes = tuple(axis for axis in axes if jax.lax.axis_size(axis) > 1)
    return jax.lax.psum(x, axes) if axes else x


def shard_map_rows(
    f: Callable[..., Any], mesh: Mesh, *, out: Callable[..., Any] = lambda *_: P()
) -> Callable[..., Any]:
    """Makes a function run(rows, *trees) that calls `f` on each device with its rows and its parts of the trees.

    Args:
        f: called as f(rows of the device, *ShardedTree of each tree).
        mesh: the mesh of the run.
        out: returns the partition specs of the result, given those of the trees. If left out, the result has to be the
            same on all devices.

    Returns:
        run(rows, *trees), with rows as arrays [accumulation, b, …] over all devices.
    """

    def run(rows: PackedRows | Batch, *trees: Any) -> Any:
        # Along `tensor` the mapping is automatic, so only the axis `fsdp` is stated.
        specs = [jax.tree.map(_only_fsdp, partition_specs(tree, mesh)) for tree in trees]

        def per_device(rows: Any, *parts: Any) -> Any:
            return f(rows, *map(ShardedTree, parts, specs))

        mapped = jax.shard_map(
            per_device,
            mesh=mesh,
            in_specs=(P(None, ROW_AXES), *specs),
            out_specs=out(*specs),
            axis_names={*ROW_AXES} if mesh.shape[TENSOR] > 1 else {*ROW_AXES, TENSOR},
            check_vma=False,
        )
        return mapped(rows, *trees)

    return run


def _only_fsdp(spec: P) -> P:
    """Returns a partition spec without its axes other than `fsdp`."""
    return P(*(axis if axis == FSDP else None for axis in spec))
