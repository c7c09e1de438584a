"""Fine-tuning tasks: data sets, task types, metrics and batches."""
