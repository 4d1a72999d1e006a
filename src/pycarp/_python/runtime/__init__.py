"""The runtime in plain Python: one thread with the sockets, one clock, the state machines and their plans.

It sends what the plans hold, orders addresses from the guardian and reports events. `ext/runtime/` is its compiled
twin: the same rooms, and the same name for a function that does the same.

    handle       the class `Runtime`, for other threads      commands    what it asks of the loop
    loop         waits, and runs what is due                 timers      who is due next
    receive      from a frame to the machine                 transmit    adverts and announcements
    actions      the agenda: what machines want done         addresses   orders to the guardian; leases
    guardian     replies, a lost guardian, hand-over         suspicion   pauses, lost frames, rivals, the watchdog
    reports      events                                      peers       who was heard
    clock        what serials are read from                  state       what all of them work on
"""

from .handle import Runtime

__all__ = ["Runtime"]
