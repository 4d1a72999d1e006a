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


cdef uint16_t next_serial(runtime_t *runtime, const transmit_t *transmit, int64_t when) noexcept nogil:
    """What the next advert that is no bow-out bears, if it is sent then. Once a host has bowed out only later serials
    count: one that comes back in the same second goes on with the next."""
    cdef uint16_t serial = serial_at(runtime, when)
    if transmit.left != <uint32_t> serial + 1:
        return serial
    runtime.ahead += 1000000000 - (when + runtime.suspended + runtime.ahead) % 1000000000
    return serial_at(runtime, when)


cdef inline uint16_t serial_at(const runtime_t *runtime, int64_t when) noexcept nogil:
    """What an advert bears that is sent then (CLOCK_MONOTONIC): seconds, modulo 2**16."""
    return <uint16_t> (<uint64_t> (when + runtime.suspended + runtime.ahead) // <uint64_t> 1000000000)
