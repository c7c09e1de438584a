"""Repeats one step of a run to find where NaN or infinity came from."""
