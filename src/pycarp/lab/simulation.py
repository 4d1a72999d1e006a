"""A LAN in memory, on simulated time: a switch, hosts that run the real protocol core, and clients that ping.

Every cable carries whole Ethernet frames, which the code of a real wire builds and takes apart. Only the switch, the
clock and the address on an interface are simulated. There is no socket, no thread and no waiting: five minutes of a
group's life take a second. The same seed gives the same run to the nanosecond. It works on every operating system.

    lan = Lan(seed=1)
    common = {"vhid": 101, "passphrase": "motdepassehalakon", "addresses": ["10.13.37.42/24"], "preempt": True}
    main = lan.host("main", "10.13.37.11/24", VirtualHost(**common))
    second = lan.host("second", "10.13.37.12/24", VirtualHost(**common, advskew=100))
    client = lan.client("client", "10.13.37.13/24")
    main.start(), second.start()
    pings = client.ping("10.13.37.42", interval=10 * MILLISECOND)
    lan.run(5 * SECOND)
    lan.unplug(main)
    lan.run(5 * SECOND)
    print(lan.masters(101), pings.outages())

All times are integer nanoseconds since the LAN came into being.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .. import events
from ..config import VirtualHost
from ..protocol import State
from .clients import Client, Outage, Pings
from .hosts import Host
from .network import LATENCY, MILLISECOND, SECOND, Network, Probe, Record, Station

__all__ = ["MILLISECOND", "SECOND", "Client", "Host", "Lan", "Outage", "Pings", "Probe", "Record", "Station"]


class Lan(Network):
    """A switch, the stations on it, one clock and one queue of what is to happen.

    `seed` fixes every random choice; `latency` is the switch's, in ns. `loss` and `jitter` are those of `Network`.
    """

    def __init__(self, *, seed: int = 0, latency: int = LATENCY, loss: float = 0.0, jitter: int = 0) -> None:
        super().__init__(seed=seed, latency=latency, loss=loss, jitter=jitter)
        self.hosts: dict[str, Host] = {}
        self.clients: dict[str, Client] = {}

    def host(self, name: str, address: str | Iterable[str], *virtual_hosts: VirtualHost) -> Host:
        """Plug in a host with an address (or one for each family) of its own; it is not started yet."""
        host = self.hosts[name] = Host(self, name, address, virtual_hosts)
        return host

    def client(self, name: str, address: str) -> Client:
        """Plug in a client."""
        client = self.clients[name] = Client(self, name, address)
        return client

    def probe(self, name: str) -> Probe:
        """Plug in a station that sends what it is told to and keeps what it hears, as tests with forged adverts do."""
        return Probe(self, name)

    def masters(self, vhid: int) -> list[str]:
        """The hosts that are MASTER of a group now."""
        return [host.name for host in self.hosts.values() if vhid in host.vhids and host.state(vhid) is State.MASTER]

    def holders(self, address: str) -> list[str]:
        """The hosts that hold an address now, and answer for it to whoever can reach them."""
        return [host.name for host in self.hosts.values() if host.holds(address)]

    def transitions(self, host: str | None = None) -> Iterator[events.StateChanged]:
        """The changes of state so far, of one host or of all."""
        for record in self.log:
            if isinstance(record.event, events.StateChanged) and host in (None, record.host):
                yield record.event

    def unplug(self, station: Station, *, seen: bool = True) -> None:
        """Pull a station's cable. `seen`: it loses carrier; otherwise the fault is out of its sight."""
        cable = station.cable
        cable.heard = cable.hears = False
        if seen and cable.carrier:
            cable.carrier = False
            self.switch.forget(cable)
            cable.link(False)

    def plug(self, station: Station) -> None:
        """Put the cable back, whatever was wrong with it."""
        cable = station.cable
        cable.heard = cable.hears = True
        if not cable.carrier:
            cable.carrier = True
            cable.link(True)

    def deafen(self, station: Station) -> None:
        """The station no longer hears anything, but is heard: the fault that makes two masters."""
        station.cable.hears = False

    def undeafen(self, station: Station) -> None:
        """The station hears again."""
        station.cable.hears = True
