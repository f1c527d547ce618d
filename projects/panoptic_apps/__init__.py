"""Tools around the core, one module or folder each."""
