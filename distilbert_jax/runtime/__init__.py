"""What surrounds the steps of a run: checkpoints, the metrics log, signals, the profiler and object stores."""
