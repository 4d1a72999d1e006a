"""Makes one virtual host of words, and a diagnostic of each mistake in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, Literal

from ..config import VirtualHost
from ..errors import ConfigError
from ..protocol.options import DEFAULT, Dialect, Flag, Mac
from . import values
from .diagnostics import COMMAND_LINE, Diagnostic, Severity, WordsError, show
from .lexer import Line, Word, command_line
from .passphrase import advice, read_passfile, zero_key
from .values import Wrong
from .vocabulary import (
    ARGUMENT,
    BY_WORD,
    FLAGS,
    IGNORED,
    KNOWN,
    NOT_RUN,
    REFUSED,
    field_of,
    nearest,
    suggestion,
    surely,
)

_MOST_ERRORS = 20
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
    """

    source: str
    name: str | None
    host: VirtualHost | None
    diagnostics: tuple[Diagnostic, ...] = ()
    places: Mapping[str, tuple[int | None, int | None, str | None]] = field(default_factory=dict)

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
        # A passphrase may also stand in the wrong place: no message shows a word that equals or contains one.
        self.secrets = {
            following.text
            for line in self.lines
            for word, following in zip(line.words, line.words[1:], strict=False)
            if word.text == "pass"
        } - {"", *KNOWN}
        self.begin([])

    def begin(self, words: Sequence[Word]) -> None:
        """Begin a line: forget what holds within the line before."""
        self.words = words
        self.at = 0
        self.family: tuple[Word, int] | None = None
        self.last: _Address | None = None
        self.mask: tuple[Word, Word] | None = None
        self.previous: Literal["address", "mask", "pass", ""] = ""

    # Diagnostics

    def shown(self, word: Word) -> str:
        return "(not shown: it is the passphrase)" if self.secret(word) else show(word.text)

    def secret(self, word: Word) -> bool:
        return any(secret == word.text or (len(secret) > 4 and secret in word.text) for secret in self.secrets)

    def say(self, word: Word | None, message: str, severity: Severity = "error", *, hide: bool = False) -> None:
        line, column = (None, None) if word is None else (word.line, word.column)
        text = None if word is None or hide or self.secret(word) else word.text
        self.diagnostics.append(Diagnostic(self.source, line, column, text, message, severity))

    def warn(self, word: Word | None, message: str, *, hide: bool = False) -> None:
        self.say(word, message, "warning", hide=hide)

    def wrong(self, word: Word, error: Wrong) -> None:
        also = "the passphrase (not shown) is also given here, where something else belongs: correct this word"
        self.say(word, also if self.secret(word) else str(error))

    def failed(self) -> bool:
        return any(d.severity == "error" for d in self.diagnostics)

    # The lines

    def parse(self) -> Parsed:
        for line in self.lines:
            self.line(line)
        host = self.finish()
        return Parsed(self.source, self.name, host, self.sorted(), self.places())

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
            key: (word.line, word.column, None if self.secret(word) or key == "passphrase" else word.text)
            for key, word in self.given.items()
        }

    def line(self, line: Line) -> None:
        if line.shell_at is not None:
            message = "a line that begins with '!' is a shell command, which is not run: start it elsewhere"
            self.warn(Word("!", line.number, line.shell_at), message)
            return
        self.begin(line.words)
        if line.words and line.words[0].text in NOT_RUN:
            word = line.words[0]
            why = "a virtual host has the addresses that its words give; remove the line"
            self.warn(word, f"{self.shown(word)} is not run: {why}")
            return
        while self.at < len(self.words):
            self.word(line)
        if self.family is not None:
            self.dangling(self.family[0], line)
        if line.open_quote is not None:
            mark = line.open_quote
            self.say(mark, f"the quotation that {mark.text} begins does not end: close it on the same line", hide=True)
        elif self.mask is not None:
            word, _ = self.mask
            self.say(word, f"'{word.text}' has no address on its line to belong to: put it after an address")

    def dangling(self, word: Word, line: Line) -> None:
        if line.open_quote is not None and self.at == len(self.words):
            return  # What it needs is lost in the open quotation, which is reported.
        if word.text == "pass" and line.comment_at is not None:
            self.say(word, "'pass' needs a passphrase after it: quote one that begins with #, which begins a comment")
        else:
            self.say(word, f"'{word.text}' needs {ARGUMENT[word.text]} after it")

    def take(self) -> Word:
        word = self.words[self.at]
        self.at += 1
        if word.unquoted:
            shell = f"a NetBSD host's shell would act upon the {word.unquoted} in this word, here it is taken as it is"
            self.warn(word, f"{shell}: put the word in single quotes", hide=True)
        return word

    def word(self, line: Line) -> None:
        word = self.take()
        text = word.text
        previous, self.previous = self.previous, ""
        if self.family is not None and text != "alias":
            announced, version = self.family
            self.family = None
            if text not in KNOWN:
                self.address(word, version)
                return
            self.say(announced, f"'{announced.text}' needs {ARGUMENT[announced.text]} after it")
        if text in ARGUMENT:
            self.with_argument(word, line)
        elif text in FLAGS:
            self.flag(word)
        elif values.looks_like_mask(text):
            self.bare_mask(word, previous)
        elif previous == "mask" and self.is_broadcast(text):
            self.warn(word, f"the broadcast address {text} follows from the mask: remove it")
        elif values.looks_like_address(text):
            self.address(word, None)
        elif text in IGNORED:
            self.at = min(self.at + IGNORED[text], len(self.words))
            self.warn(word, f"{self.shown(word)} changes nothing here and is left out: remove it")
        elif text in REFUSED:
            arguments, remedy = REFUSED[text]
            self.at = min(self.at + arguments, len(self.words))
            self.say(word, f"{self.shown(word)} cannot be done here: {remedy}")
        else:
            self.unknown(word, previous)

    # The kinds of words

    def with_argument(self, word: Word, line: Line) -> None:
        name = word.text
        if name in ("inet", "inet6"):
            self.family = (word, 4 if name == "inet" else 6)
            return
        if self.at >= len(self.words) or (name != "pass" and self.words[self.at].text in KNOWN):
            self.given.setdefault(field_of(name), word)
            self.dangling(word, line)
            return
        argument = self.take()
        try:
            match name:
                case "pass" | "passfile":
                    self.passphrase(word, argument)
                case "netmask" | "prefixlen":
                    self.mask_words(word, argument)
                case _:
                    self.put(name, argument, values.value(BY_WORD[name], argument.text))
        except Wrong as error:
            self.given.setdefault(name, argument)
            self.wrong(argument, error)

    def flag(self, word: Word) -> None:
        option = BY_WORD.get(word.text)
        if option is not None and isinstance(option.kind, Flag):
            self.fields[option.name] = word.text == option.name
        elif option is not None:
            self.fields.pop(option.name, None)
            self.given.pop(option.name, None)

    def put(self, key: str, word: Word, value: Any) -> None:
        first = self.given.get(key)
        if first is not None and key in self.fields and self.fields[key] != value:
            self.warn(word, f"{key} is given twice, first {self.where(first)}: this one counts, remove one of them")
        self.given[key] = word
        self.fields[key] = value

    def where(self, word: Word) -> str:
        return f"in line {word.line}" if word.line is not None else f"as word {word.column}"

    def passphrase(self, word: Word, argument: Word) -> None:
        first = self.given.get("passphrase")
        if first is not None:
            message = f"the passphrase is given twice, first {self.where(first)}: keep one 'pass' or 'passfile'"
            self.say(word, message, hide=True)
        self.given.setdefault("passphrase", argument if word.text == "passfile" else word)
        if word.text == "passfile":
            self.passfile(argument)
            return
        self.previous = "pass"
        text = argument.text
        if not text:
            empty = "the passphrase is empty: give one after 'pass', or leave out 'pass' for none"
            self.say(argument, empty, hide=True)
            return
        if self.pass_advice is not None:
            self.warn(word, self.pass_advice)
        if text in KNOWN:
            self.warn(word, "'pass' took the next word, one of ifconfig's own, as the passphrase: was it left out?")
        # Bytes that are not UTF-8 come from a command line as surrogates; the key needs the bytes.
        self.advise(argument, text if text.isprintable() else text.encode("utf-8", "surrogateescape"))

    def passfile(self, argument: Word) -> None:
        try:
            phrase, readers = read_passfile(argument.text, self.directory)
        except Wrong as error:
            self.say(argument, str(error), hide="/" not in argument.text)
            return
        if readers is not None:
            self.warn(argument, f"the passfile can be read by {readers}: chmod 600 it")
        self.advise(argument, phrase)

    def advise(self, word: Word, phrase: str | bytes) -> None:
        self.fields["passphrase"] = phrase
        for message in advice(phrase):
            self.warn(word, message, hide=True)

    # Addresses and masks

    def address(self, word: Word, version: int | None) -> None:
        self.given.setdefault("addresses", word)
        self.last = None
        try:
            ip, prefix = values.address(word.text, version)
        except Wrong as error:
            self.wrong(word, error)
            mask_follows = self.at < len(self.words) and values.looks_like_mask(self.words[self.at].text)
            self.at += mask_follows  # It has no address now, which is no second mistake.
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
            self.say(word, f"the mask {self.shown(word)} has no address before it: write it right after one")
            return
        self.set_mask("netmask", word)
        self.previous = "mask"

    def check_mask(self, keyword: str, text: str, version: int) -> int:
        if keyword == "prefixlen":
            return values.prefixlen(text, version)
        if version == 6:
            raise Wrong(f"netmask {show(text)} is IPv4's: write 'prefixlen 64' for an IPv6 address")
        return values.netmask(text)

    def set_mask(self, keyword: str, argument: Word) -> None:
        """Give the last address the mask in `argument`, or say what is wrong."""
        address = self.last
        assert address is not None
        try:
            prefix = self.check_mask(keyword, argument.text, address.ip.version)
        except Wrong as error:
            self.wrong(argument, error)
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
        """Whether this is the broadcast address of the last address, as OpenBSD's files have it after the mask."""
        if self.last is None or self.last.prefix is None or self.last.ip.version != 4:
            return False
        return text == str(IPv4Interface(f"{self.last.ip}/{self.last.prefix}").network.broadcast_address)

    # Unknown words

    def unknown(self, word: Word, previous: str) -> None:
        text = word.text
        following = self.words[self.at].text if self.at < len(self.words) else ""
        if previous == "pass" and not surely(text, following):
            self.after_passphrase(word)
            return
        near = nearest(text)
        message, secret = suggestion(text, self.shown(word))
        self.say(word, message, hide=secret)
        if near is not None:
            self.meant(near, word, alone="=" in text)

    def meant(self, near: str, word: Word, *, alone: bool = False) -> None:
        """Let a mistyped word stand for the one that was meant, so that nothing is reported as missing."""
        self.given.setdefault(field_of(near), word)
        if near in ARGUMENT and not alone and self.at < len(self.words) and self.words[self.at].text not in KNOWN:
            self.take()  # It belongs to the word that was meant, and may be a passphrase.
            self.previous = "pass" if near == "pass" else ""

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
            self.say(None, "an address is missing: give the one that the group shares, like 10.13.37.42/24")
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
            return VirtualHost(name=self.name, addresses=addresses, **self.fields)
        except ConfigError as error:
            self.say(self.given.get(error.field or ""), str(error), hide=error.field == "passphrase")
            return None
