"""Prepares a corpus: finds duplicates, splits, tokenizes, packs and stores rows in shards."""
