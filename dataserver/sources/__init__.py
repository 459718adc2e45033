"""Where samples come from: one format a file."""
