"""Every message that crosses a socket. Plain frozen data: no behaviour. Pure.

A message travels in an `Envelope`. Requests are answered by exactly one reply with the same
sequence number; notices are not answered. Which message answers which stands in each docstring,
and in `ANSWERS`.
Field types are limited to what `wire` can check: int, float, bool, str, bytes, dict, list, and
NumPy arrays, which travel as raw frames.
"""

from .boundary import Activations as Activations
from .boundary import Copies as Copies
from .boundary import Gradients as Gradients
from .boundary import Settle as Settle
from .boundary import Settled as Settled
from .boundary import Targets as Targets
from .checkpoints import Snapshot as Snapshot
from .checkpoints import Written as Written
from .control import AskStatus as AskStatus
from .control import Evaluate as Evaluate
from .control import Evaluated as Evaluated
from .control import Status as Status
from .control import Stop as Stop
from .data import AskSamples as AskSamples
from .data import Backup as Backup
from .data import DataFacts as DataFacts
from .data import Done as Done
from .data import Fetch as Fetch
from .data import Portion as Portion
from .data import Progress as Progress
from .data import Return as Return
from .data import Samples as Samples
from .data import Serve as Serve
from .data import Shelf as Shelf
from .data import Shelved as Shelved
from .envelope import PROTOCOL as PROTOCOL
from .envelope import Envelope as Envelope
from .envelope import Form as Form
from .envelope import Message as Message
from .membership import Ack as Ack
from .membership import Describe as Describe
from .membership import Heartbeat as Heartbeat
from .membership import Join as Join
from .membership import Leave as Leave
from .membership import Obituary as Obituary
from .membership import Ready as Ready
from .membership import Refused as Refused
from .membership import View as View
from .membership import Welcome as Welcome
from .shards import Accuse as Accuse
from .shards import Attach as Attach
from .shards import Pull as Pull
from .shards import Push as Push
from .shards import Pushed as Pushed
from .shards import Rest as Rest
from .shards import Shard as Shard
from .shards import Start as Start
from .shards import WrongOwner as WrongOwner

NOTICES = (View, Obituary)
ANSWERS: dict[type[Message], tuple[type[Message], ...]] = {
    Join: (Welcome,),
    Heartbeat: (Ack, View),
    Leave: (Ack,),
    DataFacts: (Ack,),
    Describe: (Ack,),
    Ready: (Ack,),
    Start: (Ack, WrongOwner),
    Attach: (Ack, WrongOwner),
    Pull: (Shard, WrongOwner),
    Push: (Shard, Pushed, WrongOwner),
    Snapshot: (Ack,),
    Written: (Ack,),
    Rest: (Ack,),
    Accuse: (Ack,),
    Serve: (Ack,),
    Backup: (Ack,),
    Progress: (Ack,),
    Shelf: (Ack,),
    Fetch: (Portion, Shelved),
    Done: (Ack,),
    Return: (Ack,),
    AskSamples: (Samples,),
    Activations: (Ack,),
    Targets: (Ack,),
    Gradients: (Ack,),
    Copies: (Ack,),
    Settle: (Settled,),
    Evaluate: (Evaluated,),
    AskStatus: (Status,),
    Stop: (Ack,),
}
"""Every request, and what may answer it; `Refused` may answer any."""
