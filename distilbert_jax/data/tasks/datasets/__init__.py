"""Readers of the data sets of tasks, one module per data set or family of data sets."""
