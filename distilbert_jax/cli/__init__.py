"""The command line: the parser, the entry point and one module per command."""
