"""`dualshard doctor`: what of a machine and its installation would be in the way, and the fix.

One file a subject, each a row of small checks that return `Finding`s; `command` runs them all.
"""
