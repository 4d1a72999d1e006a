"""The secret and the addresses change together while clients use them."""

from __future__ import annotations

from typing import Any

from support.lan import VIP, Lan, held, virtual_host, wait_until

from pycarp import State, events
from pycarp.protocol import Reason

MASTER = State.MASTER
JOINING, LEAVING, NEW = "10.13.37.43", "10.13.37.44", "unautremotdepasse"
BEFORE = [f"{VIP}/24", f"{LEAVING}/24"]
CHANGE: dict[str, Any] = {
    "nextpass": NEW,
    "addresses": [*BEFORE, f"{JOINING}/24"],
    "joining": [JOINING],
    "leaving": [LEAVING],
}
DONE: dict[str, Any] = {"passphrase": NEW, "addresses": [f"{VIP}/24", f"{JOINING}/24"]}


def test_one_master_throughout(with_impl: str, net: Lan) -> None:
    # Fault: None: two hosts change secret and addresses, step by step; then the MASTER dies amid the next change.
    # Expected: One MASTER throughout, all addresses answer, nobody is refused; the other takes over by the bow-out.
    main, second = net.start("main", advskew=10, addresses=BEFORE), net.start("second", advskew=25, addresses=BEFORE)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    nodes = ((second, 25), (main, 10))
    net.forget()
    pinger = net.ping()
    for node, advskew in nodes:
        node.reconfigure(virtual_host(advskew=advskew, **CHANGE))
        node.wait(events.ChangeStep, speaks="old")
    more = [net.ping(JOINING), net.ping(LEAVING)]
    assert all(one.wait(3) for one in (pinger, *more))
    main.engine.speak("both")
    second.wait(events.ChangeStep, speaks="both")
    main.engine.speak("new")
    second.wait(events.ChangeStep, speaks="new")
    assert [one.engine.snapshot().instances[0].speaks for one, _ in nodes] == ["new", "new"]
    net.forget()
    for node, advskew in nodes:
        node.reconfigure(virtual_host(advskew=advskew, **DONE))
        node.wait(events.ChangeStep, speaks="new", why="the change is done")
    wait_until(lambda: LEAVING not in held(net["main"]))
    more.pop().stop()
    assert all(one.wait(one.received + 5) for one in (pinger, *more))
    assert [one.log.find(events.AdvertRejected) for one, _ in nodes] == [[], []]
    assert len(main.transitions()) == 2 and len(second.transitions()) == 1
    main.reconfigure(virtual_host(advskew=10, **{**DONE, "nextpass": "encoreunautre"}))
    main.engine.speak("both")
    main.stop()
    second.become(MASTER)
    assert second.transitions()[-1].reason is Reason.BOWOUT
