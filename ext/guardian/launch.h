/* How the engine's process starts its guardian. */
#ifndef PYCARP_LAUNCH_H
#define PYCARP_LAUNCH_H

#include <sys/types.h>

/* Run a program that is no child of this process: no wait() sees it, and no signal tells of its end (unless this
 * process adopts orphans: PID 1, or a subreaper). It gets an empty environment, a session of its own, default signals,
 * and of all descriptors only fds[i], as i; where that is -1, /dev/null below 3 and nothing above. The calling thread
 * stands still until it runs. The pid, or -1 and errno. */
pid_t guardian_launch(const char *path, char *const argv[], const int *fds, int count);

#endif
