"""Checks JAX's own settings, which environment variables such as JAX_PLATFORMS and JAX_ENABLE_X64 change."""

import jax

REQUIRED_OPTIONS = {
    # Other types, and with them other random numbers.
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_default_matmul_precision": None,
    # Other random numbers.
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    # Other programs: one operation at a time, or an error where a step that is not finite has to be skipped.
    "jax_disable_jit": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
}
"""Options of JAX on which the masks, the numbers or the course of a run depend, and the values that they must have."""


def check_jax_options() -> None:
    """Checks that no option of JAX changes the numbers.

    Raises:
        ValueError: an option has another value than `REQUIRED_OPTIONS` says.
    """
    for option, required in REQUIRED_OPTIONS.items():
        # A version of JAX without the option behaves as required.
        value = getattr(jax.config, option, required)
        if value != required:
            raise ValueError(
                f"{option.upper()} is {value}, but must be {required}: a setting of JAX must not change the masks or "
                f"the numbers of a run. Unset the environment variable {option.upper()}, or call "
                f"jax.config.update({option!r}, {required!r})"
            )


def find_platform_problem() -> str | None:
    """Returns why JAX has no devices, as one sentence that also says what to do, or None if it has some."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX raises a bare AssertionError for JAX_PLATFORMS=cuda
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
        if platforms := jax.config.values["jax_platforms"]:
            return (
                f"JAX_PLATFORMS={platforms} names a device that this machine does not have, or that this installation "
                f"of JAX does not support{reason}. Unset JAX_PLATFORMS to use the devices that are there, or set "
                "JAX_PLATFORMS=cpu"
            )
        return f"JAX cannot use the devices of this machine{reason}. Set JAX_PLATFORMS=cpu to use the CPU"
    return None
