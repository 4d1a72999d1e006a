/* What the guardian is and may do. */
#ifndef PYCARP_CONFINE_H
#define PYCARP_CONFINE_H

#include <stdbool.h>

/* A process that goes on when others would end: name, session, signals, priority, memory. Quiet where refused. */
void confine_settle(bool realtime);

/* Keep CAP_NET_ADMIN and nothing else, for good: 0 or an errno (EPERM: it was not there). */
int confine_capabilities(void);

/* From here on only the system calls that the work needs, in all threads. Quiet where the kernel cannot. */
void confine_calls(void);

#endif
