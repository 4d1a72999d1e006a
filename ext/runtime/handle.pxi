# The runtime as Python sees it.
#
# Thread: any caller. `_deliver` and what it calls: events, where another guardian is started as well.

cdef double _ORDERS_LOOK = 0.0005  # seconds between two looks whether orders are carried out


cdef command_t _command(command_run_t run, int64_t value=0, int carpdev=0) noexcept:
    """For the runtime."""
    cdef command_t command
    memset(&command, 0, sizeof(command_t))
    command.run, command.value, command.carpdev, command.index = run, value, carpdev, -1
    return command


cdef command_t _command_on(int index, command_on_t on, int64_t value=0, int carpdev=0) noexcept:
    """For one instance."""
    cdef command_t command = _command(NULL, value, carpdev)
    command.on, command.index = on, index
    return command


cdef class Runtime:
    """Runtime(emit, realtime="auto")
--

    Runs virtual hosts in a native thread. Methods, arguments and errors are those of `pycarp._python.runtime.Runtime`.
    """

    cdef runtime_t *runtime
    cdef Lifeline _lifeline
    cdef object _emit, _others, _lock, _event_thread, _guardian
    cdef dict _instances, _sockets, _hosts
    cdef list _forgotten, _wakes  # a forked child finds no other trace of the latter
    cdef void *_stack
    cdef bint _running, _abandoned, _ended, _realtime

    def __cinit__(self):
        self.runtime = <runtime_t *> kept_calloc(sizeof(runtime_t))
        if self.runtime == NULL:
            raise MemoryError
        self.runtime.wake = self.runtime.reports.wake = self.runtime.guardian.fd = -1
        self._wakes = []
        if not _make_room(self.runtime):
            raise MemoryError

    def __init__(self, emit, realtime="auto"):
        self._emit, self._others = emit, Others(emit)
        self._lock = threading.Lock()
        self._instances, self._sockets, self._hosts, self._forgotten = {}, {}, {}, []
        self._realtime = realtime is not False
        self._lifeline = spawn.Lifeline()
        self.runtime.lifeline = self._lifeline.memory
        try:
            self.runtime.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._wakes.append(self.runtime.wake)
            self.runtime.reports.wake = os.eventfd(0, os.EFD_CLOEXEC)
            self._wakes.append(self.runtime.reports.wake)
            self._start_thread()
            if realtime is True and self.runtime.has_realtime != 1:
                raise CapabilityError(
                    "realtime=True needs the permission for SCHED_FIFO: grant CAP_SYS_NICE, or a limit on rtprio "
                    "(systemd: LimitRTPRIO=2), in a control group of version 1 cpu.rt_runtime_us as well, "
                    'or take realtime="auto"'
                )
            self.runtime.guardian.late_allowance = (
                LATE_ALLOWANCE_REALTIME if self.runtime.has_realtime == 1 else LATE_ALLOWANCE_ORDINARY
            )
            self._guardian = Guardian(self._lifeline, self._realtime, spawn)
            self._attach()
            event_thread = threading.Thread(target=self._deliver, name="pycarp-events", daemon=True)
            event_thread.start()
            self._event_thread = event_thread
        except BaseException:
            self.close()
            raise

    cdef int _start_thread(self) except -1:
        cdef sigset_t everything, former
        cdef timespec pause = duration(50000), at_once = duration(0)
        cdef int error
        # Refused by a filter, it would be the loop's every turn, without a wait.
        if ppoll(NULL, 0, &at_once, NULL) < 0:
            raise OSError(errno, os.strerror(errno))
        self.runtime.wants_realtime = self._realtime
        # The program's signals are its own threads' business.
        sigfillset(&everything)
        pthread_sigmask(SIG_SETMASK, &everything, &former)
        error = kept_thread(&self.runtime.thread, &self._stack, run, self.runtime)
        pthread_sigmask(SIG_SETMASK, &former, NULL)
        if error:
            raise OSError(error, os.strerror(error))
        self._running = True
        # Also until it has locked the lifeline: the guardian waits for the end of that.
        with nogil:
            while atomic_load32(&self.runtime.lifeline_locked) == 0:
                nanosleep(&pause, NULL)
        return 0

    def __dealloc__(self):
        cdef int at
        if self.runtime == NULL:
            return
        if self._running and not self._abandoned:
            # Nobody closed it, and nobody can any more. Its sockets are gone already: only the thread must not live on.
            with nogil:
                self.runtime.closing = True
                wake(self.runtime.wake)
                kept_join(self.runtime.thread, self._stack)
        for at in range(self.runtime.carpdev_count):
            _free_carpdev(self.runtime.carpdevs[at])
        kept_free(self.runtime.carpdevs)
        kept_free(self.runtime.instances)
        kept_free(self.runtime.heap)
        kept_free(self.runtime.agenda.demotions)
        kept_free(self.runtime)

    # Carpdevs

    def add_carpdev(self, int carpdev, sockets, mac, addresses, allow):
        cdef command_t command = _command(add_carpdev, 0, carpdev)
        cdef carpdev_t *fresh = <carpdev_t *> kept_calloc(sizeof(carpdev_t))
        cdef int error, receive
        if fresh == NULL:
            raise MemoryError
        try:
            receive = sockets.receive.fileno()
            with nogil:
                error = ring_open(&fresh.ring, receive)  # the kernel waits for its other users of packets
            if error:
                raise OSError(error, f"a packet ring could not be had: {os.strerror(error)}")
            fresh.number, fresh.send_fd, fresh.input.allow = carpdev, sockets.send.fileno(), allow
            command.new_carpdev = fresh
            if not self._set_carpdev(&command, mac, addresses):
                raise MemoryError
        except BaseException:
            _free_carpdev(fresh)
            raise
        self._sockets[carpdev] = sockets

    def update_carpdev(self, int carpdev, mac, addresses):
        cdef command_t command = _command(update_carpdev, 0, carpdev)
        if not self._set_carpdev(&command, mac, addresses):
            raise KeyError(carpdev)

    cdef bint _set_carpdev(self, command_t *command, object mac, object addresses) except -1:
        try:
            _fill_carpdev(command, mac, addresses)
            self._call(command)
        finally:
            free(command.addresses.items)
            free(command.broadcasts.items)
        return command.found

    def remove_carpdev(self, int carpdev):
        cdef command_t command = _command(remove_carpdev, 0, carpdev)
        self._call(&command)
        if not command.found:
            raise KeyError(carpdev)
        _free_carpdev(command.new_carpdev)
        self._sockets.pop(carpdev).close()

    # Instances

    def add_instance(self, int index, int carpdev, plan, device, lock):
        cdef command_t command = _command(add_instance, 0, carpdev)
        cdef _Instance added = _Instance(index, carpdev, plan, device, lock)
        command.new_instance = added.instance
        self._entrust(added, plan)
        self._hosts[index] = plan.host
        self._instances[index] = added
        try:
            self._call(&command)
            if not command.found:
                raise MemoryError
        except BaseException:
            del self._hosts[index], self._instances[index]
            raise

    def move_instance(self, int index, int carpdev, plan, device, lock):
        cdef _Instance moved = self._instances[index]
        cdef int former = moved.carpdev
        moved.carpdev = carpdev
        try:
            self._replan(moved, plan, device, lock, True, move_instance)
        except BaseException:
            moved.carpdev = former
            raise

    def replan(self, int index, plan, device, lock=None, entrust=True):
        self._replan(self._instances[index], plan, device, lock, entrust, replan)

    cdef int _replan(
        self, _Instance changed, object plan, object device, object lock, bint entrust, command_on_t on
    ) except -1:
        former = changed.device, changed.lock
        cdef bint other = plan.host != changed.plan.host
        cdef command_t command = _command_on(changed.instance.index, on, other, changed.carpdev)
        _fill_plan(&command.plan, plan)
        command.plan.gated = device.gate is not None
        try:
            changed.device, changed.lock = device, lock or changed.lock
            if entrust:
                self._entrust(changed, plan)
            self._call(&command)
            self._hosts[command.index] = plan.host
            changed.plan = plan
        except BaseException:
            changed.device, changed.lock = former
            raise
        finally:
            # Now it is the former one, or, if nothing came of it, the new one.
            _free_plan(&command.plan)
        return 0

    def remove_instance(self, int index, restore=False):
        owned = self.owns(index)
        self.stop_instance(index)
        self._await_orders(index, owned)
        try:
            for kind in [ORDER_REMOVE, ORDER_RESTORE] if restore else [ORDER_REMOVE]:
                error = self._ask_guardian(kind, index)
                if error == ENOENT:
                    raise EngineError(NOT_ENTRUSTED)
                if error:
                    raise OSError(error, os.strerror(error))
        finally:
            try:
                self._ask_guardian(ORDER_FORGET, index)
            except EngineError:
                pass
            self._forget(index)

    def freeze(self, int index, int64_t margin):
        cdef _Instance frozen = self._instances[index]
        cdef command_t command = _command_on(index, freeze, margin)
        self._call(&command)
        return _left(self.runtime, frozen.instance, frozen.plan.authenticator) if command.value else None

    def thaw(self, int index):
        self._on(index, thaw)

    def hand_on(self, int index):
        try:
            self._ask_guardian(ORDER_FORGET, index)
        finally:
            self._forget(index)

    cdef int _forget(self, int index) except -1:
        self._on(index, remove_instance)
        self._forgotten.append(index)
        del self._instances[index]
        return 0

    def inherit(self, int index, values, int64_t until):
        cdef command_t command = _command_on(index, inherit, until)
        cdef instance_t *left = <instance_t *> calloc(1, sizeof(instance_t))
        if left == NULL:
            raise MemoryError
        try:
            # It is not started: nobody else looks at what it has learned.
            left.machine = (<_Instance> self._instances[index]).instance.machine
            _fill_left(left, values)
            (<_Instance> self._instances[index]).plan.authenticator.inherit(values["auth"])
            command.new_instance = left
            self._call(&command)
        finally:
            free(left)
        return command.value != 0

    def expect(self, vhids):
        for vhid in vhids:
            self.runtime.expected[<uint8_t> vhid] = 1

    def start_instance(self, int index):
        state = (<_Instance> self._instances[index]).plan.host.state
        self._on(index, start_instance, -1 if state is None else state)

    def stop_instance(self, int index):
        self._on(index, stop_instance)

    def stop_all(self):
        owned = any([self.owns(index) for index in list(self._instances)])
        self._ask(stop_all)
        self._await_orders(-1, owned)

    def link(self, int index, up):
        self._on(index, link, bool(up))

    def force(self, int index, state):
        self._on(index, force, State(state))

    def hold(self, int index, int64_t until, again=False):
        cdef command_t command = _command_on(index, extend if again else hold, until)
        self._call(&command)
        if again:
            return command.value != 0
        self._await_orders(index, False)
        return self.owns(index)

    def hand_over(self, int index):
        self._on(index, give_way)

    def retake(self, int index, quiet=False):
        self._on(index, retake, bool(quiet))

    def announce(self, int index, advertise=False):
        self._on(index, announce_again, bool(advertise))

    def refuse(self, int index, int64_t until):
        self._on(index, refuse, until)

    def state(self, int index):
        return _STATES[(<_Instance> self._instances[index]).instance.machine.state]

    def owns(self, int index):
        return bool((<_Instance> self._instances[index]).instance.ownership.owned)

    def heard(self, int index):
        return (<_Instance> self._instances[index]).instance.suspicion.heard

    def demotion(self, int index):
        return (<_Instance> self._instances[index]).instance.machine.demotion

    def stats(self, int index):
        cdef command_t command = _command_on(index, stats)
        self._call(&command)
        return Stats(*[command.counters[at] for at in range(COUNTERS)])

    def reading(self, int index):
        cdef command_t command = _command_on(index, look)
        cdef instance_t *copy = <instance_t *> calloc(1, sizeof(instance_t))
        if copy == NULL:
            raise MemoryError
        try:
            command.new_instance = copy
            self._call(&command)
            counters = Stats(*[command.counters[at] for at in range(COUNTERS)])
            return _reading(copy, counters)
        finally:
            free(copy)

    # All of it

    def overview(self):
        cdef watchdog_t *watchdog = &self.runtime.watchdog
        guardian = self._guardian
        return Overview(
            guardian=None if guardian is None else guardian.pid,
            demotion=self.runtime.demotion,
            aside=bool(self.runtime.aside),
            watchdog=watchdog.limit,
            fed=<int64_t> atomic_load64(&watchdog.fed),
            expired=atomic_load32(&watchdog.expired) != 0,
        )

    def demote(self, int by, index=None):
        if index is None:
            return self._ask(demote, by)
        cdef command_t command = _command_on(index, demote_one, by)
        self._call(&command)
        return command.value

    def stand_aside(self, aside, index=None):
        if index is None:
            self._ask(stand_aside, bool(aside))
        else:
            self._on(index, stand_one_aside, bool(aside))

    def watch(self, int64_t limit):
        self._ask(watch, limit)

    def alive(self):
        atomic_store64(&self.runtime.watchdog.fed, <uint64_t> monotonic())
        if atomic_load32(&self.runtime.watchdog.expired) and self.runtime.wake >= 0:
            wake(self.runtime.wake)

    def tell(self, event):
        self._others.put(event)
        if self._event_thread is None:
            self._others.tell()
        else:
            wake(self.runtime.reports.wake)

    def measures(self):
        cdef measures_t *measures = &self.runtime.measures
        return Measures(
            realtime=self.runtime.has_realtime == 1,
            ring_losses=self._ask(count_losses),
            wakeup=tuple([measures.wakeup[at] for at in range(BUCKETS)]),
            sending=tuple([measures.sending[at] for at in range(BUCKETS)]),
            takeover=tuple([measures.takeover[at] for at in range(BUCKETS)]),
        )

    def close(self):
        cdef command_t command = _command(close)
        try:
            self.stop_all()
            self._ask_guardian(ORDER_QUIET, 0)
        except EngineError:
            pass
        # Locked to the end: a command that came after this one would never be answered.
        with self._lock:
            if self._running:
                self._post(&command)
                with nogil:
                    kept_join(self.runtime.thread, self._stack)
                self._running = False
                self._ended = True
        # Outside of the lock: the event thread may wait for it, to bring the thread another guardian.
        if self._event_thread is not None:
            event_thread, self._event_thread = self._event_thread, None
            wake(self.runtime.reports.wake)
            event_thread.join()
            self._others.tell()
        with self._lock:
            if self._guardian is not None:
                self._guardian.close()
                self._guardian = None
            self._close_descriptors()

    def abandon(self):
        self._abandoned = True
        self._running = False
        if self._guardian is not None:
            self._guardian.abandon()
        self._close_descriptors()

    def _close_descriptors(self):
        cdef int at
        self._lifeline.close()
        for at in range(self.runtime.carpdev_count):
            ring_close(&self.runtime.carpdevs[at].ring)
        for sockets in self._sockets.values():
            sockets.close()
        self._sockets.clear()
        descriptors, self._wakes = self._wakes, []
        self.runtime.wake = self.runtime.reports.wake = -1
        for descriptor in descriptors:
            os.close(descriptor)

    # Commands

    cdef int _call(self, command_t *command) except -1:
        """Have the thread run a command. The GIL is free meanwhile."""
        with self._lock:
            if not self._running:
                raise EngineError("the engine is not running")
            self._post(command)
        if command.on != NULL and not command.found:
            raise KeyError(command.index)
        if command.frozen:
            raise EngineError(HANDED_ON)
        return 0

    cdef void _post(self, command_t *command) noexcept:
        sem_init(&command.done, 0, 0)
        with nogil:
            atomic_push(&self.runtime.commands, <void **> command)
            wake(self.runtime.wake)
            while sem_wait(&command.done) != 0:
                pass
        sem_destroy(&command.done)

    cdef int _on(self, int index, command_on_t on, int64_t value=0) except -1:
        cdef command_t command = _command_on(index, on, value)
        return self._call(&command)

    cdef int64_t _ask(self, command_run_t run, int64_t value=0) except? -1:
        cdef command_t command = _command(run, value)
        self._call(&command)
        return command.value

    # The guardian

    def _attach(self):
        """Show the thread its guardian, or that there is none."""
        self._ask(attach, -1 if self._guardian is None else self._guardian.fileno())

    def _entrust(self, _Instance added, plan):
        """Give the guardian what it needs to take, renew and drop, and the bow-outs that it sends if we cannot."""
        sockets, guardian = self._sockets.get(added.carpdev), self._guardian
        if guardian is None or sockets is None or added.lock is None:
            return  # done when there is a guardian, or a carpdev, again
        try:
            guardian.add(added.instance.index, added.device, plan.bowouts, sockets.send, added.lock)
        except GuardianGone:
            pass  # the thread has noticed, and another is on its way

    def _ask_guardian(self, int kind, int index):
        """Have the guardian do what it answers in its own time; returns the error's number, or 0."""
        cdef command_t command = _command(ask, kind)
        cdef int64_t give_up = monotonic() + ORDERS_DONE_WITHIN
        command.index = index
        self._call(&command)
        if not command.found:
            raise EngineError(NO_GUARDIAN)
        command.run = answer
        while monotonic() < give_up:
            self._call(&command)
            if command.found:
                if command.value == EHOSTDOWN:
                    raise EngineError(NO_GUARDIAN)
                return command.value
            time.sleep(_ORDERS_LOOK)
        raise EngineError(GUARDIAN_HANGS)

    def _await_orders(self, int index, owned):
        """Wait until the orders of one instance, or of all (-1), are carried out, but not for ever; and until the link
        of a device is down that has had addresses: both keep others waiting who change interfaces on this machine."""
        cdef command_t command = _command(orders_done)
        cdef int64_t give_up = monotonic() + ORDERS_DONE_WITHIN
        command.index = index
        while not command.found and monotonic() < give_up:
            self._call(&command)
            if not command.found:
                time.sleep(_ORDERS_LOOK)
        time.sleep(DEVICE_REMOVED_AFTER_DROP / 1e9 if owned else 0)

    def _replace_guardian(self):
        """In the event thread: start another one. Where that cannot be, the thread hands over."""
        former, self._guardian = self._guardian, None
        if former is not None:
            if self.runtime.guardian.hanging:
                former.kill()
            former.close(0)
        self.runtime.guardian.hanging = False
        try:
            self._guardian = Guardian(self._lifeline, self._realtime, spawn)
            for instance in list(self._instances.values()):
                self._entrust(instance, (<_Instance> instance).plan)
            self._emit(events.GuardianReplaced(vhid=0, name="", at=monotonic()))
        except (CarpError, OSError) as error:
            if self._guardian is not None:
                former, self._guardian = self._guardian, None
                former.close(0)
            what = events.no_other_guardian(error)
            self._emit(events.GuardianLost(vhid=0, name="", at=monotonic(), what=what))
            # Where this process still may, it drops them itself.
            for instance in list(self._instances.values()):
                try:
                    with netlink.RouteSocket() as route:
                        route.execute((<_Instance> instance).device.drop)
                except OSError:
                    pass
        try:
            self._attach()
        except EngineError:
            pass  # it is being closed

    # Events

    def _deliver(self):
        """In a Python thread: events from the ring, and those of others, to their consumer."""
        cdef reports_t *reports = &self.runtime.reports
        cdef record_t record
        precise()
        while True:
            os.read(reports.wake, 8)
            ended = self._ended
            forgotten, self._forgotten = self._forgotten, []
            while reports.fetched != atomic_load32(&reports.put):
                record = reports.records[reports.fetched % RECORDS]
                atomic_store32(&reports.fetched, reports.fetched + 1)
                host = self._hosts.get(record.index)
                self._others.tell(record.at)
                if host is not None or record.index < 0:
                    self._emit(event_of(&record, host))
                if record.make == guardian_lost_event and not ended:
                    self._replace_guardian()
            self._others.tell()
            lost = atomic_take64(&reports.lost)
            if lost:
                self._emit(events.EventsLost(vhid=0, name="", at=monotonic(), count=lost))
            for index in forgotten:
                if index not in self._instances:
                    self._hosts.pop(index, None)
            if ended:
                return
