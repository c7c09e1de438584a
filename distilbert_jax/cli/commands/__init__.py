"""One module per command. Its docstring is the help text, `add_arguments` its flags and `run` its call.

Everything a command needs is imported inside `run`, so that `--help` answers before jax is imported.
"""
