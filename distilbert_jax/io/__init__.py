"""Files, untrusted input, the console, caches and object stores."""
