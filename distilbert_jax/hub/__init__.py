"""Loads and saves model folders in the layout of the Hugging Face Hub."""
