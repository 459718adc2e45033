"""Nets in machine code: kernels, the stages and programs that call them, and their buffers."""
