"""The controller: who is in the cluster, who owns which bucket, and when an epoch ends."""
