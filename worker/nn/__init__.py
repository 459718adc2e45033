"""Neural nets: layers and losses in plain NumPy, and a compiled step with the same results."""
