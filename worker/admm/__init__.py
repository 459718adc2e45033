"""The formulas of the ADMM modes, on arrays: no sockets, no messages, no nets."""
