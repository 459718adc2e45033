"""The parameter server: shards, update rules applied to pushes, answers to pulls."""
