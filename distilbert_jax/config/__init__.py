"""What a run is: frozen dataclasses for experiments and fine-tuning, and the files that define them."""
