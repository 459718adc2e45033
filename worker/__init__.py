"""The worker: backprop in lock-free threads over one shared parameter vector."""
