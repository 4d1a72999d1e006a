"""keepalived.conf: each VRRP instance becomes a virtual host, with its checks, hooks and sync group."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from ipaddress import ip_interface

from .._records import dataclass, field
from ..errors import ConfigError
from ..protocol.options import BY_NAME, check_destinations
from .keepalived_blocks import Block, read
from .keepalived_checks import Tracked, statements
from .model import Conversion, Target

_NOTHING = {"state", "native_ipv6", "version", "accept", "preempt", "debug", "linkbeat_use_polling", "vmac_xmit_base"}
"""Words that say what holds here anyway, or nothing."""

_LACKING = {
    "unicast_src_ip": "adverts to a peer come from the address of the interface in its subnet",
    "mcast_src_ip": "adverts come from the address of the interface",
    "mcast_dst_ip": "'group ADDRESS' is another multicast group than 224.0.0.18 or ff02::12",
    "preempt_delay": "preemption cannot be delayed; a hand-over by command can be made at a chosen time",
    "virtual_routes": "set routes by a hook, or by the system's own configuration: the addresses follow the main table",
    "virtual_rules": "set rules by a hook, or by the system's own configuration",
    "virtual_ipaddress_excluded": "",
    "track_bfd": "BFD is not spoken: the time limits follow from advbase and advskew",
    "down_timer_adverts": "a master counts as gone after 3 missed adverts",
    "dont_track_primary": "the link is always followed",
    "smtp_alert": "no mail is sent: let a hook do it",
    "no_accept": "the addresses are always this host's own while it is master",
    "use_ipvlan": "the addresses are on a macvlan, or on the interface itself",
    "vrf": "addresses in a VRF are not supported",
    "lvs_sync_daemon_interface": "IPVS is not carried",
    "promote_secondaries": "the addresses of a group do not depend on each other",
    "notify_deleted": "no hook runs when a virtual host is removed by a reload",
    "lower_prio_no_advert": "carp(4)'s rules are fixed",
    "higher_prio_send_advert": "carp(4)'s rules are fixed",
    "start_delay": "it takes part at once, as BACKUP",
    "notify_master_rx_lower_pri": "no hook runs when a worse master is heard; its event can be read with 'pycarp ctl "
    "events'",
    "track_src_ip": "the addresses of the interface are always followed",
}
_OTHER_BLOCKS = {
    "virtual_server": "load balancing (IPVS) is not carried: keep it in keepalived, without its VRRP instances",
    "virtual_server_group": "load balancing (IPVS) is not carried",
    "static_ipaddress": "addresses that are always there belong into the system's own configuration",
    "static_routes": "routes that are always there belong into the system's own configuration",
    "static_rules": "rules that are always there belong into the system's own configuration",
    "garp_group": "announcements are not spaced by group",
    "bfd_instance": "BFD is not spoken",
    "track_group": "addresses that are always there belong into the system's own configuration",
}
_NOTIFY = {"notify_master": "master", "notify_backup": "backup", "notify_fault": "fault", "notify_stop": "drain"}


@dataclass(slots=True)
class _Instance:
    block: Block
    target: Target
    sync: str = ""
    names: list[str] = field(default_factory=list)


def convert(text: str, source: str) -> Conversion:
    """A virtual host for each ``vrrp_instance``."""
    conversion = Conversion(source)
    blocks = read(text, conversion)
    tracked = Tracked(blocks, conversion)
    groups = [block for block in blocks if block.words[0] == "vrrp_sync_group"]
    by_member = {" ".join(line.words): block for block in groups for line in block.inside("group")}
    grouped = {name for name, block in by_member.items() if not block.named("sync_group_tracking_weight")}
    instances: dict[str, _Instance] = {}
    for block in blocks:
        match block.words[0]:
            case "vrrp_instance":
                name = " ".join(block.words[1:])
                bonus = tracked.bonus(block, name in grouped)
                bonus += tracked.bonus(by_member[name]) if name in by_member else 0
                target = _target(block, source, conversion, bonus)
                if target is not None:
                    instances[name] = _Instance(block, target)
            case "global_defs":
                _global(block, conversion)
            case word if word in _OTHER_BLOCKS:
                conversion.remark(block.line, f"{word} was left out: {_OTHER_BLOCKS[word]}")
            case "vrrp_script" | "vrrp_track_file" | "track_file" | "vrrp_track_process" | "vrrp_sync_group":
                pass  # Used where they are named.
            case "include":
                conversion.remark(block.line, "the files that this line names are not read: convert them by themselves")
            case _:
                conversion.remark(block.line, "a block or line that VRRP does not need was left out")
    conversion.targets = [one.target for one in instances.values()]
    conversion.finish()  # Names are needed for what follows.
    for name, one in instances.items():
        one.target.statements += statements(one.block, tracked, conversion, name in grouped)
        one.target.statements += _hooks(one.block, conversion)
    for block in groups:
        _sync(block, instances, tracked, conversion)
    if not instances and not conversion.remarks:
        conversion.remark(None, "there is no vrrp_instance here: give the file that has one")
    return conversion


def _target(block: Block, source: str, conversion: Conversion, bonus: int) -> Target | None:
    target = Target(f"a vrrp_instance of keepalived ({source}:{block.line})")
    for name, limit in (("virtual_router_id", "vhid"), ("interface", "carpdev")):
        for line in block.named(name):
            conversion.put(target, line.line, limit, line.value, name)
    _priority(block, target, conversion, bonus)
    _interval(block, target, conversion)
    if not block.named("nopreempt"):
        target.words["preempt"] = ""
    # Without use_vmac keepalived answers with the interface's own MAC.
    if not block.named("use_vmac"):
        target.words["mac"] = "interface"
    _secret(block, target, conversion)
    for name in ("virtual_ipaddress", "virtual_ipaddress_excluded"):
        for line in block.inside(name):
            _address(line, target, conversion)
    _peers(block, target, conversion)
    for line in block.children:
        _left_out(line, conversion)
    if "vhid" in target.words and target.addresses:
        return target
    conversion.remark(
        block.line, "no virtual host came of this vrrp_instance: it needs virtual_router_id and an address"
    )
    return None


def _priority(block: Block, target: Target, conversion: Conversion, bonus: int) -> None:
    """The higher the priority of a healthy host, the lower the advskew: the order of the hosts stays as it was."""
    line = next(iter(block.named("priority")), None)
    priority = line.value if line is not None else "100"
    if not re.fullmatch(r"\d{1,3}", priority) or not 1 <= int(priority) <= 255:
        conversion.remark(line.line if line else None, "a priority that is no number of 1-255 was left out")
        return
    target.words["advskew"] = str(max(0, 254 - int(priority) - bonus))
    where = line.line if line is not None else block.line
    with_bonus = f" and the weights of {bonus} that it has while all is well" if bonus else ""
    conversion.remark(
        where, f"priority {priority}{with_bonus} became advskew {target.words['advskew']}, 254 less the priority"
    )


def _interval(block: Block, target: Target, conversion: Conversion) -> None:
    for line in block.named("advert_int"):
        if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?", line.value):
            conversion.remark(line.line, "an advert_int that is no number was left out")
            continue
        seconds = float(line.value)
        target.words["advbase"] = str(min(254, max(1, round(seconds))))
        if seconds != int(target.words["advbase"]):
            remedy = "for less than a second write advbase 0 and an advskew: the interval is advskew/256 s"
            conversion.remark(line.line, f"advert_int {line.value} became advbase {target.words['advbase']}; {remedy}")


def _secret(block: Block, target: Target, conversion: Conversion) -> None:
    (found, *_) = [*(line for line in block.inside("authentication") if line.words[0] == "auth_pass"), None]
    if found is None:
        conversion.remark(
            block.line, "VRRP has no secret here, CARP needs one: write a new one into the passfile, on all hosts"
        )
        return
    target.secret = found.value
    conversion.remark(
        found.line, "auth_pass was sent in clear by VRRP: better write a new passphrase into the passfile, on all hosts"
    )


def _address(line: Block, target: Target, conversion: Conversion) -> None:
    words = line.words
    if not conversion.add_address(target, line.line, words[0]):
        return
    ignored = [word for word in ("label", "scope", "peer", "preferred_lft", "home", "mngtmpaddr") if word in words]
    if "dev" in words[:-1] and words[words.index("dev") + 1] != target.words.get("carpdev"):
        conversion.remark(line.line, "an address of another interface: give it a virtual host of its own, with 'sync'")
    if ignored:
        conversion.remark(line.line, f"{' and '.join(ignored)} of an address was left out")


def _peers(block: Block, target: Target, conversion: Conversion) -> None:
    """`unicast_peer`: those of a family of which no address floats would never be sent anything."""
    found: dict[str, None] = {}
    for line in block.inside("unicast_peer"):
        try:
            (peer,) = BY_NAME["peers"].kind.check("peers", line.words[:1])
            check_destinations((peer,), (), [ip_interface(one) for one in target.addresses])
        except ConfigError as error:
            conversion.remark(line.line, f"a unicast_peer cannot be taken: {error}")
            continue
        if len(line.words) > 1:
            conversion.remark(line.line, "the TTLs of a unicast_peer were left out: 255, but for peers beyond a router")
        found[str(peer)] = None
    if found:
        target.words["peer"] = " ".join(found)


def _left_out(line: Block, conversion: Conversion) -> None:
    word = line.words[0]
    if _LACKING.get(word):
        conversion.remark(line.line, f"{word} was left out: {_LACKING[word]}")
    elif word.startswith("garp_"):
        conversion.remark(line.line, f"{word} was left out: 'announcements N' says how often a takeover is announced")
    elif word not in (
        *_NOTHING,
        *_LACKING,
        *_NOTIFY,
        *("virtual_router_id", "interface", "priority", "advert_int", "nopreempt", "use_vmac", "use_vmac_addr"),
        *("authentication", "virtual_ipaddress", "notify", "unicast_peer"),
        *("track_script", "track_interface", "track_file", "track_process"),
    ):
        conversion.remark(line.line, "a line that is not known here was left out")


def _hooks(block: Block, conversion: Conversion) -> Iterator[str]:
    for name, when in _NOTIFY.items():
        for line in block.named(name):
            yield _hook(line, when, conversion)
    for line in block.named("notify"):
        conversion.remark(
            line.line,
            "notify became a hook: keepalived adds INSTANCE, a name, the state and the priority as arguments; "
            "a hook has PYCARP_NAME and PYCARP_STATE in its environment",
        )
        yield _hook(line, "any", conversion)


def _hook(line: Block, when: str, conversion: Conversion) -> str:
    # A quoted command has its arguments within the quotes; a user and a group may follow.
    command, *who = line.words[1:] or [""]
    if len(who) > 1:
        conversion.remark(line.line, "the group of this script was left out: a hook runs with the groups of its user")
    user = f"user {shlex.quote(who[0])} " if who else ""
    return f"hook {when} {user}{_command(command)}"


def _command(text: str) -> str:
    """A command with its arguments as words of ours."""
    try:
        return shlex.join(shlex.split(text))
    except ValueError:
        return shlex.join(["/bin/sh", "-c", text])


def _sync(block: Block, instances: dict[str, _Instance], tracked: Tracked, conversion: Conversion) -> None:
    names = [" ".join(line.words) for line in block.inside("group")]
    members = [instances[name] for name in names if name in instances]
    if len(members) < len(names):
        conversion.remark(
            block.line, "a member of this vrrp_sync_group is no vrrp_instance of this file and was left out"
        )
    common = [*statements(block, tracked, conversion), *_hooks(block, conversion)]
    for one in members:
        others = [other.target.name for other in members if other is not one]
        one.target.statements += [f"sync {' '.join(others)}"] if others else []
    # What the group tracks, and tells, is said once: sync moves the others along.
    if members:
        members[0].target.statements += common
    _rest_of_group(block.children, conversion)


def _rest_of_group(lines: Iterable[Block], conversion: Conversion) -> None:
    known = (
        "group",
        "sync_group_tracking_weight",
        "notify",
        "track_script",
        "track_interface",
        "track_file",
        "track_process",
        "global_tracking",
    )
    for line in lines:
        if line.words[0] not in (*known, *_NOTIFY):
            conversion.remark(line.line, "a line of a vrrp_sync_group that is not known here was left out")


def _global(block: Block, conversion: Conversion) -> None:
    for line in block.children:
        word = line.words[0]
        if word == "vrrp_notify_fifo" and len(line.words) > 1:
            conversion.remark(
                line.line, "the notify FIFO was left out: 'hook fifo PATH' writes one line of JSON an event"
            )
        elif word in ("router_id", "enable_script_security", "script_user", "vrrp_version", "process_names"):
            conversion.remark(line.line, f"{word} needs no counterpart")
        elif word.startswith(("smtp", "notification_email")):
            conversion.remark(line.line, f"{word} was left out: no mail is sent, let a hook do it")
        else:
            conversion.remark(line.line, "a line of global_defs was left out")
