"""The data server: reads, augments and serves minibatches ahead of need."""
