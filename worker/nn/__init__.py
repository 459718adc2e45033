"""Neural nets: layers and losses in plain array code; `native` has their compiled form."""
