"""Sources of text: files, datasets of the Hugging Face Hub, TensorFlow Datasets and installed packages."""
