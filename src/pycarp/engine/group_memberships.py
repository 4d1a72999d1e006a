"""Keeps the memberships of multicast groups that are not carp(4)'s own: `group ADDRESS`.

A carpdev's sockets are members of carp(4)'s groups. Those of virtual hosts come and go with them, and with reloads.

Thread: supervisor
"""

from __future__ import annotations

import contextlib

from .._unpatched import socket
from ..linux.sockets import join_group
from ..protocol.abc import IPAddress
from .instances import Instances


class GroupMemberships:
    """One membership for each carpdev and group, however many virtual hosts want it."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        self._joined: dict[tuple[int, IPAddress], list[socket.socket]] = {}

    def close(self) -> None:
        for key in tuple(self._joined):
            self._leave(key)

    def run(self) -> None:
        """Join what is wanted, leave what is not. Never raises: what fails is tried again at the next call.

        Groups are joined whatever the state: a BACKUP hears the MASTER by them.
        """
        wanted = {
            (instance.carpdev.index, group): None
            for instance in self._instances
            if instance.present
            for group in instance.host.groups
            if group.version in instance.host.families
        }
        for key in self._joined.keys() - wanted.keys():
            self._leave(key)
        for index, group in wanted.keys() - self._joined.keys():
            with contextlib.suppress(OSError):
                self._joined[index, group] = join_group(index, group)

    def _leave(self, key: tuple[int, IPAddress]) -> None:
        for one in self._joined.pop(key):
            one.close()
