"""Starting one job on many hosts: where each role stands, how it is started, who watches it."""
