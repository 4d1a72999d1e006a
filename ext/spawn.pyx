# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic
"""How the guardian is started, and the lifeline by which it sees that the engine lives: the compiled twin of
`pycarp._python.spawn`.

Thread: any caller; `lifeline_lock` and `lifeline_unlock`: runtime, no GIL.
"""

import os

from libc.errno cimport errno
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from posix.types cimport pid_t
from posix.unistd cimport close, getpid

from .system cimport (
    MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ROBUST,
    PTHREAD_PROCESS_SHARED, SYS_gettid, SYS_tgkill, atomic_load32, atomic_store32, mmap, munmap,
    pthread_mutex_consistent, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_t, pthread_mutex_unlock,
    pthread_mutexattr_destroy, pthread_mutexattr_init, pthread_mutexattr_setpshared, pthread_mutexattr_setrobust,
    pthread_mutexattr_settype, pthread_mutexattr_t, syscall,
)


cdef extern from "<errno.h>" nogil:
    int EOWNERDEAD

cdef extern from "guardian/launch.h" nogil:
    pid_t guardian_launch(const char *path, char *const *argv, const int *fds, int count)


cdef enum:
    PAGE = 4096


cdef struct lifeline_t:
    # The guardian knows of the mutex alone.
    pthread_mutex_t mutex
    uint32_t holder  # the thread that holds it, or 0


def spawn(str path, list argv, list fds):
    """Run a program that is no child of this process, and return its pid: launch.h says how.

    Its directory is /, and it has the calling thread's namespaces and scheduling. `argv` are its arguments, the first
    its name. Until the program runs, about a millisecond, this thread waits. Raises `OSError` with the path.
    """
    cdef bytes program = os.fsencode(path)
    cdef list arguments = [bytes(one) for one in argv]
    cdef Py_ssize_t at, count = len(arguments), places = len(fds)
    cdef char **pointers = <char **> malloc((count + 1) * sizeof(char *))
    cdef int *descriptors = <int *> malloc((places + 1) * sizeof(int))
    cdef const char *where
    cdef pid_t pid
    cdef int error
    try:
        if pointers == NULL or descriptors == NULL:
            raise MemoryError
        for at in range(count):
            pointers[at] = arguments[at]
        pointers[count] = NULL
        for at in range(places):
            descriptors[at] = fds[at]
        where = program
        with nogil:
            pid = guardian_launch(where, pointers, descriptors, <int> places)
            error = errno
        if pid < 0:
            raise OSError(error, os.strerror(error), path)
        return pid
    finally:
        free(pointers)
        free(descriptors)


cdef uint32_t _thread() noexcept nogil:
    return <uint32_t> syscall(SYS_gettid)


cdef void lifeline_lock(void *memory) noexcept nogil:
    """The calling thread locks it, until `lifeline_unlock` or its end."""
    cdef lifeline_t *lifeline = <lifeline_t *> memory
    # A thread that held it before has ended, and so, perhaps, has a guardian that had just seen it free.
    if pthread_mutex_lock(&lifeline.mutex) == EOWNERDEAD:
        pthread_mutex_consistent(&lifeline.mutex)
    atomic_store32(&lifeline.holder, _thread())


cdef void lifeline_unlock(void *memory) noexcept nogil:
    """An orderly end, by the thread that holds it; for another it does nothing."""
    cdef lifeline_t *lifeline = <lifeline_t *> memory
    if atomic_load32(&lifeline.holder) == _thread():
        atomic_store32(&lifeline.holder, 0)
        pthread_mutex_unlock(&lifeline.mutex)


cdef class Lifeline:
    """A page of shared memory with a robust mutex: while a thread of this process holds it, the engine lives.

    The guardian maps what `fileno()` names. The kernel hands the mutex over when the thread that holds it ends, in
    whatever way, an exec of the program included. Raises `OSError`.
    """

    def __cinit__(self):
        self.memory = NULL
        self._descriptor = -1

    def __init__(self):
        cdef pthread_mutexattr_t attributes
        cdef void *memory
        if self._descriptor >= 0:
            raise ValueError("a lifeline is made once")
        self._descriptor = os.memfd_create("pycarp-lifeline", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._descriptor, PAGE)
            memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, self._descriptor, 0)
            if memory == MAP_FAILED:
                raise OSError(errno, os.strerror(errno))
        except BaseException:
            os.close(self._descriptor)
            self._descriptor = -1
            raise
        pthread_mutexattr_init(&attributes)
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED)
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST)
        # A thread that locks it twice does not hang.
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK)
        pthread_mutex_init(<pthread_mutex_t *> memory, &attributes)
        pthread_mutexattr_destroy(&attributes)
        self.memory = memory

    def __dealloc__(self):
        self._release()

    def fileno(self):
        """The memory's descriptor."""
        return self._descriptor

    def lock(self):
        """The calling thread holds it from now on, until it ends or closes the lifeline."""
        cdef void *memory = self.memory
        if memory == NULL:
            raise ValueError("this lifeline is closed")
        with nogil:
            lifeline_lock(memory)

    def close(self):
        """Unlock it, if the calling thread holds it, and unmap the memory; may be repeated.

        While another thread of this process holds it the page stays: the C library keeps a list of what a thread holds.
        """
        self._release()

    cdef void _release(self) noexcept:
        cdef void *memory = self.memory
        cdef uint32_t holder
        self.memory = NULL
        if memory != NULL:
            lifeline_unlock(memory)
            holder = atomic_load32(&(<lifeline_t *> memory).holder)
            if holder == 0 or syscall(SYS_tgkill, getpid(), holder, 0) < 0:
                munmap(memory, PAGE)
        if self._descriptor >= 0:
            close(self._descriptor)
            self._descriptor = -1
