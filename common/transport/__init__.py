"""Moving whole messages between roles: the contract, and ZeroMQ. The one room that imports zmq."""

from .addresses import parse_address as parse_address
from .addresses import require_keys as require_keys
from .addresses import unprotected as unprotected
from .contract import NOBODY as NOBODY
from .contract import Seen as Seen
from .contract import Transport as Transport
from .curve import new_pair as new_pair
from .zeromq import ZmqTransport as ZmqTransport
