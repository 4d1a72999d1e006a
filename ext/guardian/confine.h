/* What the guardian's process is and may do. Thread: main, before it does anything else. */
#ifndef PYCARP_CONFINE_H
#define PYCARP_CONFINE_H

#include <stdbool.h>

/* Its name, session, signals, priority and memory: it goes on where other processes end. What is refused is done
 * without. */
void confine_process(bool realtime);

/* Keep CAP_NET_ADMIN and no other capability, for ever: 0 or an errno (EPERM: it was not there). */
int confine_capabilities(void);

/* From here on, only the system calls that the work needs, in all threads; any call where the kernel cannot do that. */
void confine_calls(void);

#endif
