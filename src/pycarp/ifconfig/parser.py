"""Makes one virtual host of words, and a diagnostic of each mistake in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, Literal

from .._records import asdict, dataclass, field
from ..config import VirtualHost
from ..errors import ConfigError
from ..protocol import GROUPS
from ..protocol.choices import Dialect, Mac
from ..protocol.options import DEFAULT, Flag
from . import values
from .destinations import DESTINATIONS, destination, wanted
from .diagnostics import COMMAND_LINE, Diagnostic, Severity, WordsError
from .lexer import Line, Word, command_line
from .passphrase import advice, read_passfile, zero_key
from .rcconf import about_virtual_host
from .statements import STATEMENTS, Kind, Misstated, Words, begins, fields_of, meant, read
from .values import Wrong
from .vocabulary import (
    ARGUMENT,
    AS_HERE,
    BY_WORD,
    FLAGS,
    IGNORED,
    KNOWN,
    NOT_RUN,
    PHRASES,
    PUBLIC,
    REFUSED,
    SECRET_WORDS,
    WORDS,
    field_of,
    nearest,
    suggestion,
    surely,
)

_MOST_ERRORS = 20
_SECRETS = ("passphrase", "nextpass")
_NODE = re.compile(r"([0-9]+):([0-9]+)")  # OpenBSD's carpnodes, with one of them
_ON_COMMAND_LINE = "pass puts the passphrase where every user of this machine sees it (ps): use 'passfile FILE'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds for a virtual host whose words say nothing about it."""

    preempt: bool = DEFAULT["preempt"]
    dialect: Dialect = DEFAULT["dialect"]
    mac: Mac = DEFAULT["mac"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came out of one virtual host's words.

    host          the virtual host; None if anything is wrong.
    source, name  where the words stand, and the name that the virtual host has or would have had (None: by its vhid).
    diagnostics   every mistake and every piece of advice, in the order of the words.
    places        where a field of `VirtualHost`, or an address (as text), was given: (line, column, word).
    services      what statements about the whole command say, by the statement's name (`statements.STATEMENTS`).
    """

    source: str
    name: str | None
    host: VirtualHost | None
    diagnostics: tuple[Diagnostic, ...] = ()
    places: Mapping[str, tuple[int | None, int | None, str | None]] = field(default_factory=dict)
    services: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity == "error")

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity == "warning")

    def require(self) -> VirtualHost:
        """The virtual host, or `WordsError` with every mistake."""
        if self.host is None:
            raise WordsError(self.errors)
        return self.host

    def about(self, key: str, message: str) -> Diagnostic:
        """A mistake at the place where `key` (a field, or an address as text) was given."""
        line, column, word = self.places.get(key, (None, None, None))
        return Diagnostic(self.source, line, column, word, message)


def parse_words(
    words: Sequence[str],
    *,
    name: str | None = None,
    source: str = COMMAND_LINE,
    defaults: Defaults | None = None,
    directory: Path | None = None,
) -> Parsed:
    """The virtual host that the words of one ifconfig call describe (without the name of the interface).

    `source` says where the words come from; `pass` is advised against on the command line. A relative passfile is
    looked up in `directory`. Never raises for bad words: see `Parsed`.
    """
    if isinstance(words, str | bytes):
        raise TypeError("words is one text: give a sequence of words")
    advice = _ON_COMMAND_LINE if source == COMMAND_LINE else None
    return Parser([command_line(list(words))], name, source, defaults, directory, advice).parse()


@dataclass(slots=True)
class _Address:
    ip: values.IP
    word: Word
    prefix: int | None = None


@dataclass
class Parser:
    """Reads logical lines once; `pass_advice` is a warning to give wherever `pass` stands."""

    lines: Sequence[Line]
    name: str | None
    source: str
    defaults: Defaults | None = None
    directory: Path | None = None
    pass_advice: str | None = None

    def __post_init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.fields: dict[str, Any] = asdict(self.defaults or Defaults())
        self.given: dict[str, Word] = {}  # where a field was given, rightly or wrongly, or an address
        self.addresses: list[_Address] = []
        self.phrases: dict[str, tuple[str, Word]] = {}  # "pass" or "passfile", and what stood after it, by the field
        self.interface = ""  # that of the lines of rc.conf(5)
        self.stated: list[tuple[Kind, Any]] = []  # what statements make
        self.begin([])

    def begin(self, words: Sequence[Word]) -> None:
        """Begin a line: forget what holds within the line before."""
        self.words = words
        self.at = 0
        self.family: tuple[Word, int] | None = None  # inet or inet6, while the line has no address after it
        self.last: _Address | None = None
        self.mask: tuple[Word, Word] | None = None
        self.previous: Literal["family", "address", "mask", "pass", ""] = ""

    # Diagnostics

    def public(self, word: Word) -> bool:
        """Whether a message may repeat the word: all others may be the passphrase, or a part of it."""
        return word.text in PUBLIC or values.harmless(word.text)

    def say(self, word: Word | None, message: str, severity: Severity = "error", *, hide: bool = False) -> None:
        line, column = (None, None) if word is None else (word.line, word.column)
        text = None if word is None or hide or not self.public(word) else word.text
        self.diagnostics.append(Diagnostic(self.source, line, column, text, message, severity))

    def warn(self, word: Word | None, message: str, *, hide: bool = False) -> None:
        self.say(word, message, "warning", hide=hide)

    def failed(self) -> bool:
        return any(d.severity == "error" for d in self.diagnostics)

    # The lines

    def parse(self) -> Parsed:
        for line in self.lines:
            self.line(line)
        host = self.finish()
        services = {kind.name: made for kind, made in self.stated if not kind.about}
        return Parsed(self.source, self.name, host, self.sorted(), self.places(), services)

    def sorted(self) -> tuple[Diagnostic, ...]:
        last = 1 << 60
        found = sorted(self.diagnostics, key=lambda d: (d.line or last, d.column or last))
        errors = [d for d in found if d.severity == "error"]
        if len(errors) > _MOST_ERRORS:
            more = f"{len(errors) - _MOST_ERRORS} more mistakes are not listed: is this a file of ifconfig words?"
            found[found.index(errors[_MOST_ERRORS]) :] = [Diagnostic(self.source, None, None, None, more)]
        return tuple(found)

    def places(self) -> dict[str, tuple[int | None, int | None, str | None]]:
        return {
            key: (word.line, word.column, word.text if self.public(word) and key not in _SECRETS else None)
            for key, word in self.given.items()
        }

    def line(self, line: Line) -> None:
        if line.shell_at is not None:
            message = "a line that begins with '!' is a shell command, which is not run: start it elsewhere"
            self.warn(Word("!", line.number, line.shell_at), message)
            return
        self.begin(line.words if line.variable is None else self.value_of(line.variable, line))
        if line.variable is None and line.number and self.statement(line):
            return
        if self.words and self.words[0].text in NOT_RUN:
            why = "a virtual host has the addresses that its words give; remove the line"
            self.warn(self.words[0], f"'{self.words[0].text}' is not run: {why}")
            return
        if len(self.words) > 1 and self.words[0].text.rpartition("/")[2] == "ifconfig":
            self.at = 2  # A whole command, and the interface's name.
        while self.at < len(self.words):
            self.word(line)
        if self.family is not None and self.previous == "family":
            self.dangling(self.family[0], line)
        if line.open_quote is not None:
            self.unended(line.open_quote)
        elif self.mask is not None:
            word, _ = self.mask
            self.say(word, f"'{word.text}' has no address on its line to belong to: put it after an address")

    def unended(self, mark: Word) -> None:
        self.say(mark, f"the quotation that {mark.text} begins does not end: close it on the same line", hide=True)

    def statement(self, line: Line) -> bool:
        """Read a line that is a statement, or was meant to be one; False if it is none."""
        kind, near = begins(self.words), meant(self.words)
        if kind is None:
            if near is not None:
                self.say(self.words[0], f"the word that begins this line is unknown: did you mean '{near}'?")
            return near is not None
        if line.open_quote is not None:
            self.unended(line.open_quote)
            return True
        cursor = Words(self.words[0], self.words[1:], self.directory)
        try:
            made = read(kind, cursor)
        except Misstated as error:
            self.say(error.word, str(error))
        else:
            first = self.given.setdefault(kind.about or kind.name, cursor.first)
            if not kind.about and first is not cursor.first:
                self.say(cursor.first, f"{kind.name} is given twice, first {self.where(first)}: remove one of them")
            count = sum(one.name == kind.name for one, _ in self.stated)
            self.given[f"{kind.about or kind.name}[{count}]"] = cursor.first
            self.stated.append((kind, made))
        for word, message in cursor.warnings:
            self.warn(word, message)
        return True

    def value_of(self, variable: Word, line: Line) -> Sequence[Word]:
        """The words of a line of rc.conf(5), if they are about this virtual host."""
        interface, words = about_virtual_host(line)
        if not words and line.open_quote is None:
            message = "this line of rc.conf(5) describes no virtual host and is left out: remove it"
            self.warn(variable, message, hide=True)
        elif words and self.interface not in ("", interface):
            other = "this line of rc.conf(5) is about another interface than the one before: give it a file of its own"
            self.say(variable, other, hide=True)
            return ()
        self.interface = self.interface or interface if words else self.interface
        return words

    def dangling(self, word: Word, line: Line) -> None:
        if line.open_quote is not None and self.at == len(self.words):
            return  # What it needs is lost in the open quotation, which is reported.
        if word.text in ("pass", "nextpass") and line.comment_at is not None:
            quoted = "needs a passphrase after it: quote one that begins with #, which begins a comment"
            self.say(word, f"'{word.text}' {quoted}")
        else:
            named = ": put ./ before a name that is also a word" if word.text in ("passfile", "nextpassfile") else ""
            self.say(word, f"'{word.text}' needs {ARGUMENT[word.text]} after it{named}")

    def take(self) -> Word:
        word = self.words[self.at]
        self.at += 1
        if word.unquoted:
            shell = f"a NetBSD host's shell would act upon the {word.unquoted} in this word, here it is taken as it is"
            self.warn(word, f"{shell}: put the word in single quotes", hide=True)
        return word

    def phrase(self, word: Word) -> Word:
        """The word, or the one that stands for it and the next."""
        following = self.words[self.at].text if self.at < len(self.words) else ""
        name = PHRASES.get((word.text, following))
        if name is None:
            return word
        self.at += 1
        if name == "preempt_delay":
            self.fields["preempt"] = True
        return Word(name, word.line, word.column)

    def word(self, line: Line) -> None:
        word = self.phrase(self.take())
        text = word.text
        previous, self.previous = self.previous, ""
        if previous == "family" and text not in WORDS:
            self.address(word)
        elif text in ARGUMENT:
            self.with_argument(word, line, previous)
        elif text in FLAGS:
            self.flag(word)
            self.previous = previous if text == "alias" and previous == "family" else ""
        elif previous == "address" and values.looks_like_length(text):
            self.set_mask("prefixlen", word)
            self.previous = "mask"
        elif previous in ("address", "mask") and text == "NONE":
            pass  # No broadcast address, in OpenBSD's files.
        elif previous in ("address", "mask") and self.is_broadcast(text):
            self.warn(word, f"the broadcast address {text} follows from the mask: remove it")
        elif values.looks_like_mask(text):
            self.bare_mask(word, previous)
        elif values.looks_like_address(text):
            self.address(word)
        elif text in IGNORED:
            self.at = min(self.at + IGNORED[text], len(self.words))
            self.warn(word, f"'{text}' changes nothing here and is left out: remove it")
        elif text in REFUSED:
            self.refused(word)
        else:
            self.unknown(word, previous)

    # The kinds of words

    def with_argument(self, word: Word, line: Line, previous: str) -> None:
        name = word.text
        if name in ("inet", "inet6"):
            if self.family is not None and previous == "family":
                self.dangling(self.family[0], line)
            self.family = (word, 4 if name == "inet" else 6)
            self.previous = "family"
            return
        free = name in ("pass", "nextpass")
        if self.at >= len(self.words) or (not free and self.words[self.at].text in KNOWN):
            self.given.setdefault(field_of(name), word)
            self.dangling(word, line)
            return
        argument = self.take()
        try:
            match name:
                case "pass" | "passfile" | "nextpass" | "nextpassfile":
                    self.passphrase(word, argument)
                case "joining" | "leaving":
                    self.moving(name, argument)
                case "netmask" | "prefixlen":
                    self.mask_words(word, argument)
                    self.previous = "mask"
                case _ if name in DESTINATIONS:
                    self.destinations(word, argument)
                case _:
                    self.put(name, argument, values.value(BY_WORD[name], argument.text))
        except Wrong as error:
            self.given.setdefault(name, argument)
            self.say(argument, str(error))

    def destinations(self, word: Word, argument: Word) -> None:
        words = wanted(word.text, argument, self.words[self.at :])
        if not words:
            self.warn(word, f"'{word.text}' with a name changes nothing here and is left out: remove both words")
            return
        self.at += len(words) - 1
        for one in words:
            name, address = destination(word.text, one.text)
            if name == "peers" or address.packed not in GROUPS.values():  # carp(4)'s own group holds here anyway
                self.fields[name] = (*self.fields.get(name, ()), address)
            self.given.setdefault(name, one)

    def flag(self, word: Word) -> None:
        option = BY_WORD.get(word.text)
        if option is not None and isinstance(option.kind, Flag):
            self.fields[option.name] = word.text == option.name
        elif option is not None:
            self.fields.pop(option.name, None)
            self.given.pop(option.name, None)

    def refused(self, word: Word) -> None:
        arguments, remedy = REFUSED[word.text]
        argument = self.take() if arguments and self.at < len(self.words) else None
        if argument is not None and ((word.text, argument.text) in AS_HERE or self.virtual_mac(word, argument)):
            return
        node = _NODE.fullmatch(argument.text) if argument is not None and word.text == "carpnodes" else None
        if argument is None or node is None:
            self.say(word, f"'{word.text}' cannot be done here: {remedy}")
            return
        try:
            for key, text in (("vhid", node[1]), ("advskew", node[2])):
                self.put(key, argument, values.value(BY_WORD[key], text))
        except Wrong as error:
            self.given.setdefault("vhid", argument)
            self.say(argument, str(error))

    def virtual_mac(self, word: Word, argument: Word) -> bool:
        """Whether the words give the MAC that the addresses have anyway."""
        return word.text in ("lladdr", "ether", "link") and argument.text.lower().startswith("00:00:5e:00:01:")

    def put(self, key: str, word: Word, value: Any) -> None:
        first = self.given.get(key)
        if first is not None and key in self.fields and self.fields[key] != value:
            twice = f"{key} is given twice, first {self.where(first)}"
            if key == "vhid":
                self.say(word, f"{twice}, with another number: give each virtual host a file of its own")
            else:
                self.warn(word, f"{twice}: this one counts, remove one of them")
        self.given[key] = word
        self.fields[key] = value

    def where(self, word: Word) -> str:
        return f"in line {word.line}" if word.line is not None else f"as word {word.column}"

    def passphrase(self, word: Word, argument: Word) -> None:
        key, from_file = SECRET_WORDS[word.text], word.text.endswith("file")
        first, said = self.given.get(key), self.phrases.get(key)
        self.phrases[key] = (word.text, argument)
        if said is not None and (said[0], said[1].text) == (word.text, argument.text):
            self.previous = "" if from_file else "pass"
            return  # As FreeBSD's aliases have it, each with the whole description.
        if first is not None:
            keep = word.text.removesuffix("file")
            message = f"the passphrase is given twice, first {self.where(first)}: keep one '{keep}' or '{keep}file'"
            self.say(word, message, hide=True)
        self.given.setdefault(key, argument if from_file else word)
        if from_file:
            self.passfile(key, argument)
            return
        self.previous = "pass"
        text = argument.text
        if not text:
            empty = f"the passphrase is empty: give one after '{word.text}', or leave out '{word.text}' for none"
            self.say(argument, empty, hide=True)
            return
        if self.pass_advice is not None:
            self.warn(word, self.pass_advice.replace("pass", word.text, 1).replace("passfile", f"{word.text}file"))
        if text in KNOWN:
            took = f"'{word.text}' took the next word, one of ifconfig's own, as the passphrase: was it left out?"
            self.warn(word, took)
        # Bytes that are not UTF-8 come from a command line as surrogates; the key needs the bytes.
        self.advise(key, argument, text if text.isprintable() else text.encode("utf-8", "surrogateescape"))

    def passfile(self, key: str, argument: Word) -> None:
        try:
            phrase, readers = read_passfile(argument.text, self.directory)
        except Wrong as error:
            self.say(argument, str(error), hide=True)
            return
        if readers is not None:
            self.warn(argument, f"the passfile can be read by {readers}: chmod 600 it", hide=True)
        self.advise(key, argument, phrase)

    def advise(self, key: str, word: Word, phrase: str | bytes) -> None:
        self.fields[key] = phrase
        for message in advice(phrase):
            self.warn(word, message, hide=True)

    # Addresses and masks

    def moving(self, key: str, word: Word) -> None:
        """One of the addresses that come or go in a change."""
        ip, _prefix = values.address(word.text, None)
        self.given.setdefault(key, word)
        self.fields[key] = (*self.fields.get(key, ()), str(ip))

    def address(self, word: Word) -> None:
        version = self.family[1] if self.family is not None else None
        self.family = self.last = None
        self.given.setdefault("addresses", word)
        try:
            ip, prefix = values.address(word.text, version)
        except Wrong as error:
            self.say(word, str(error))
            following = self.words[self.at].text if self.at < len(self.words) else ""
            # A mask has no address now, which is no second mistake.
            self.at += values.looks_like_mask(following) or values.looks_like_length(following)
            return
        first = self.given.get(str(ip))
        if first is not None:
            self.say(word, f"{ip} is given twice, first {self.where(first)}: remove one of them")
        self.last = _Address(ip, word, prefix)
        self.previous = "address"
        if first is None:
            self.addresses.append(self.last)
            self.given[str(ip)] = word
        if self.mask is not None:
            (keyword, argument), self.mask = self.mask, None
            self.set_mask(keyword.text, argument)

    def mask_words(self, word: Word, argument: Word) -> None:
        if self.last is not None:
            self.set_mask(word.text, argument)
        elif "addresses" in self.given and any(w is self.given["addresses"] for w in self.words):
            self.check_mask(word.text, argument.text, 4)  # Its address is wrong, and reported.
        else:
            self.mask = (word, argument)

    def bare_mask(self, word: Word, previous: str) -> None:
        if previous != "address" or self.last is None:
            self.say(word, "the mask has no address before it: write it right after one")
            return
        self.set_mask("netmask", word)
        self.previous = "mask"

    def check_mask(self, keyword: str, text: str, version: int) -> int:
        if keyword == "prefixlen":
            return values.prefixlen(text, version)
        if version == 6:
            raise Wrong("netmask is IPv4's: write 'prefixlen 64' for an IPv6 address")
        return values.netmask(text)

    def set_mask(self, keyword: str, argument: Word) -> None:
        """Give the last address the mask in `argument`, or say what is wrong."""
        address = self.last
        assert address is not None
        try:
            prefix = self.check_mask(keyword, argument.text, address.ip.version)
        except Wrong as error:
            self.say(argument, str(error))
            return
        if address.prefix is None:
            address.prefix = prefix
            try:
                values.check_fit(address.ip, prefix)
            except Wrong as error:
                self.say(address.word, str(error))
        elif address.prefix != prefix:
            twice = f"as /{address.prefix} and as /{prefix}"
            self.say(argument, f"the mask of {address.ip} is given twice, {twice}: remove one of them")

    def is_broadcast(self, text: str) -> bool:
        """Whether this is the broadcast address of the last address's subnet: OpenBSD has it after the mask."""
        if self.last is None or self.last.prefix is None or self.last.ip.version != 4:
            return False
        subnet = IPv4Interface(f"{self.last.ip}/{self.last.prefix}").network
        if self.last.prefix == 32 and re.fullmatch(r"([0-9]+\.){3}255", text):
            return values.harmless(text)  # That of the LAN: an alias has no subnet of its own.
        return text in (str(subnet.broadcast_address), str(subnet.network_address), "255.255.255.255")

    # Unknown words

    def unknown(self, word: Word, previous: str) -> None:
        text = word.text
        following = self.words[self.at].text if self.at < len(self.words) else ""
        if previous == "pass" and not surely(text, following):
            self.after_passphrase(word)
            return
        if text in STATEMENTS:
            remedy = f'begin a line with it, or write --{text} "..." on the command line'
            self.say(word, f"'{text}' does not stand among other words: {remedy}")
            self.at = len(self.words)
            return
        near = nearest(text)
        self.say(word, suggestion(text))
        if any(letter.isspace() for letter in text):
            for key in ("vhid", "passphrase", "addresses"):  # All of them may be in it.
                self.given.setdefault(key, word)
        elif near is not None:
            self.meant(near, word, alone="=" in text)

    def meant(self, near: str, word: Word, *, alone: bool = False) -> None:
        """Let a mistyped word stand for the one that was meant, so that nothing is reported as missing."""
        self.given.setdefault(field_of(near), word)
        if near in ARGUMENT and not alone and self.at < len(self.words) and self.words[self.at].text not in KNOWN:
            self.take()  # It belongs to the word that was meant, and may be a passphrase.
            self.previous = "pass" if near in ("pass", "nextpass") else ""

    def after_passphrase(self, word: Word) -> None:
        """An unknown word that follows the passphrase may be the rest of it, written without quotes."""
        near = nearest(word.text)
        hint = f", or was '{near}' meant?" if near is not None and near != "pass" else ""
        why = "the word after the passphrase is unknown (not shown, it may be a part of it)"
        self.say(word, f"{why}: quote a passphrase that has spaces{hint}", hide=True)
        while self.at < len(self.words):
            text = self.words[self.at].text
            if text in KNOWN or values.looks_like_address(text) or values.looks_like_mask(text):
                break
            self.take()

    # The whole

    def finish(self) -> VirtualHost | None:
        if not self.given and not self.failed():
            self.say(None, "there are no words that describe a virtual host: give a vhid, a passphrase and an address")
            return None
        if "vhid" not in self.given:
            self.say(None, "vhid is missing: give 'vhid N', 1-255, the same on every host of the group")
        if "addresses" not in self.given:
            missing = "an address is missing: give the one that the group shares, like 10.13.37.42/24"
            took = next((w for word, w in self.phrases.values() if word in ("pass", "nextpass")), None)
            if took is not None and values.looks_like_address(took.text):
                taken = "'pass' took this word, which looks like an address, as the passphrase"
                self.say(took, f"{missing}; {taken}: was the passphrase left out?", hide=True)
            else:
                self.say(None, missing)
        anybody = "anybody on the LAN can take the address"
        if "passphrase" not in self.given:
            self.warn(None, f"NO PASSPHRASE: {anybody}; give 'passfile FILE', the same on every host")
            self.fields["passphrase"] = ""
        elif "passphrase" in self.fields and zero_key(self.fields["passphrase"], self.fields["dialect"]):
            lost = "dialect netbsd loses the only character of this passphrase"
            self.warn(self.given["passphrase"], f"{lost}: {anybody}", hide=True)
        if self.failed():
            return None
        addresses = [str(a.ip) if a.prefix is None else f"{a.ip}/{a.prefix}" for a in self.addresses]
        try:
            return VirtualHost(name=self.name, addresses=addresses, **self.fields, **fields_of(self.stated))
        except ConfigError as error:
            self.say(self.given.get(error.field or ""), str(error), hide=True)
            return None
