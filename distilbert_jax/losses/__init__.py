"""The losses that a student can be trained with, one file each. `base.py` says what a loss is and how to write one."""
