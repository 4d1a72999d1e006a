#!/bin/sh
# hypercorn 0.18.0: the only worker of a default start never gets SIGTERM; it is a process of its own.
#
# Expected: `hypercorn app:app` (one worker) is one process, as `uvicorn app:app`; or the parent passes SIGTERM on, as
# gunicorn does. So a handler for SIGTERM that the application installs runs when the service is stopped.
# Seen: the default is --workers 1, and any number above 0 makes workers by multiprocessing's spawn; only --workers 0 serves
# in the process that was started. On SIGTERM the parent sets an event that its workers poll, and sends no signal: the
# application's handler stays installed and is not called, while its lifespan does shut down. What an application wants to
# do first at SIGTERM (leave a load balancer, hand over an address) has to come from the lifespan, after the drain.
# Needs: python3 with venv and pip. Everything happens in a temporary folder.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q hypercorn==0.18.0 2>pip.log || { cat pip.log; exit 2; }
cat >application.py <<'PROGRAM'
import os, signal

say = lambda what: print(what, "parent" if os.getpid() == int(os.environ["STARTED"]) else "worker", flush=True)
signal.signal(signal.SIGTERM, lambda *_: say("handler"))


async def app(scope, receive, send):
    while scope["type"] == "lifespan":
        kind = (await receive())["type"]
        say(kind)
        await send({"type": kind + ".complete"})
        if kind == "lifespan.shutdown":
            return
PROGRAM
sh -c 'STARTED=$$ exec venv/bin/hypercorn --bind unix:service.sock application:app' >log 2>&1 &
service=$!
for _ in $(seq 100); do
    grep -q Running log && break
    sleep 0.1
done
kill -TERM "$service"
wait "$service" || true
echo "hypercorn 0.18.0, $(python3 --version), default number of workers:"
grep -E "^(handler|lifespan)" log
if grep -q "^lifespan.shutdown worker" log && ! grep -q "^handler" log; then
    echo "SEEN: the lifespan shuts down in a worker whose SIGTERM handler is never called"
else
    echo "CHANGED: it is otherwise now"
    exit 1
fi
