# The clock that serials are read from: the wall clock, but it never goes back.
#
# Thread: runtime, no GIL.

cdef void read_clock(runtime_t *runtime) noexcept nogil:
    """Steps of the wall clock are followed forward only, and not while others follow a MASTER here: to them its serials
    would jump."""
    cdef int64_t ahead = realtime() - boottime()
    cdef int at
    for at in range(runtime.instance_count):
        if runtime.instances[at].transmit.speaks and runtime.instances[at].machine.state == STATE_MASTER:
            return
    if ahead > runtime.ahead:
        runtime.ahead = ahead


cdef inline uint16_t serial_at(const runtime_t *runtime, int64_t when) noexcept nogil:
    """What an advert bears that is sent then (CLOCK_MONOTONIC): seconds, modulo 2**16."""
    return <uint16_t> (<uint64_t> (when + runtime.suspended + runtime.ahead) // <uint64_t> 1000000000)
