"""URLs as they may be shown: without passwords and without signatures. Pure.

Whatever prints the name of a place that a user gave, in an error, a log or a table, goes through
here.
"""

import re

_USER = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*=[^\s'\"]*")


def without_secrets(text: str) -> str:
    """`text` with `user:password@` of its URLs removed and their queries as `?...`."""
    return _QUERY.sub(r"\1?...", _USER.sub("", text))
