"""Loads tokenizers and checks their files."""
