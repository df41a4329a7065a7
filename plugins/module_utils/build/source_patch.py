# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source patch: reading a unified diff, and applying it to the files of a kernel without fuzz.

One diff may serve several series, so a hunk may stand at other lines than it names: in the one place where it fits,
or, if it fits in several, where the hunk before it has moved by as much. Where that happens is told.

Where a hunk adds or removes lines, a ``#line`` follows it: the lines after it keep their numbers, so that code
which uses __LINE__ (WARN_ON, ASSERT_RTNL, …) does not differ for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import Refusal, RefusedError

WHOLE_FILE = "(whole file)"

_HUNK = re.compile(r"@@ -(?P<start>[0-9]+)(?:,(?P<old>[0-9]+))? \+[0-9]+(?:,(?P<new>[0-9]+))? @@")
_PATH = re.compile(r"[A-Za-z0-9_.+,/-]+")
_UNSUPPORTED_HEADERS = {
    "rename from": "the diff renames the file; change it in its place",
    "copy from": "the diff copies the file; change it in its place",
    "GIT binary patch": "the diff is binary; only C source can be patched",
    "Binary files": "the diff is binary; only C source can be patched",
}
_UNSUPPORTED_KINDS = {
    ".S": "assembly is not supported: its functions have no call to the function tracer to redirect",
    ".s": "assembly is not supported: its functions have no call to the function tracer to redirect",
    ".rs": "Rust is not supported; only C source can be patched",
}
# What this code stands in never runs as the kernel's own, or has run before anything could be patched.
_UNSUPPORTED_PLACES = {
    "arch/x86/boot": "it is boot code, which is over before a patch can be loaded",
    "arch/x86/entry/vdso": "it is the vDSO, which runs in processes and is mapped into them already",
    "arch/x86/purgatory": "it runs between two kernels, not in this one",
    "arch/x86/realmode": "it runs before a processor enters the kernel",
    "drivers/firmware/efi/libstub": "it is boot code, which is over before a patch can be loaded",
    "scripts": "it is a program of the kernel's build; nothing of it runs in the kernel",
    "tools": "it is a program for users; nothing of it runs in the kernel",
    "usr": "it makes the initial file system of the boot, which is over",
}
_NO_NEWLINE = "\\"
_NOWHERE = "/dev/null"
_SHOWN = 3  # places where an ambiguous hunk fits


@dataclass(frozen=True)
class Hunk:
    """One hunk; each line is (sign, text), the sign one of ' ', '-', '+', the text with its newline."""

    number: int  # in its file, from 1
    title: str  # "@@ -10,6 +10,7 @@"
    start: int  # line in the old file, from 1; the line before it if the hunk has no old lines
    lines: tuple[tuple[str, str], ...]

    @property
    def old(self) -> list[str]:
        """The lines that it expects."""
        return [text for sign, text in self.lines if sign != "+"]


class Moved(NamedTuple):
    """A hunk that stands at other lines than the diff says; lines count from 1."""

    path: str
    hunk: str  # "hunk 2 (@@ -10,6 +10,7 @@)"
    said: int
    found: int

    def __str__(self) -> str:
        return f"{self.path}: {self.hunk} applies at line {self.found}, not at line {self.said}"


class Applied(NamedTuple):
    """A file with the patch applied."""

    text: str | None  # None if the patch removes it
    moved: tuple[Moved, ...] = ()


@dataclass
class FilePatch:
    """What the diff changes in one file."""

    path: str
    hunks: list[Hunk] = field(default_factory=list)
    added: bool = False
    removed: bool = False

    @property
    def header(self) -> bool:
        """Whether other files include it."""
        return not self.path.endswith(".c")


def parse(text: str) -> list[FilePatch]:
    """The files that a ``-p1`` unified diff changes; raise RefusedError for all that it may not hold."""
    parser = _Parser(text)
    parser.parse()
    parser.check()
    return parser.files


def apply(patch: FilePatch, source: Path, strict: bool = False) -> Applied:
    """The file under *source* with the patch applied.

    Raise RefusedError naming each hunk that does not fit, and if *strict* each that fits at other lines only.
    """
    if patch.added:
        return Applied(_new_text(patch, source))
    try:
        lines = read_text(source / patch.path).splitlines(keepends=True)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        reason = "there is no such file in this kernel's source; make the diff against the kernel that runs"
        raise RefusedError([Refusal(patch.path, WHOLE_FILE, reason)]) from error
    places, refusals = _places(patch, lines)
    if not refusals and patch.removed and sum(len(hunk.old) for hunk in patch.hunks) != len(lines):
        refusals = [Refusal(patch.path, WHOLE_FILE, "the diff removes the file, but not all of its lines")]
    moved = _moved(patch, places)
    if strict:
        refusals += [Refusal(each.path, each.hunk, _MOVED.format(each=each)) for each in moved]
    if refusals:
        raise RefusedError(refusals)
    return Applied(None if patch.removed else "".join(_patched(lines, places)), moved)


def _new_text(patch: FilePatch, source: Path) -> str:
    if (source / patch.path).exists():
        reason = "the diff adds it, but this kernel's source has it; make the diff against the kernel that runs"
        raise RefusedError([Refusal(patch.path, WHOLE_FILE, reason)])
    return "".join(text for hunk in patch.hunks for sign, text in hunk.lines)


def is_makefile(path: str) -> bool:
    """Whether the file lists what is built."""
    return PurePosixPath(path).name in ("Makefile", "Kbuild")


def read_text(path: Path) -> str:
    """A source file's text; bytes that are not UTF-8 survive being written again by write_text()."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return stream.read()


def write_text(path: Path, text: str) -> None:
    """Write what read_text() read."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        stream.write(text)


class _Parser:
    """Reads a diff line by line; what is between files (mail headers, index lines) is ignored."""

    def __init__(self, text: str) -> None:
        self._lines = re.findall(r"[^\n]*\n|[^\n]+$", text)
        self._at = 0
        self._named = "(diff)"
        self.files: list[FilePatch] = []
        self.refusals: list[Refusal] = []

    def parse(self) -> None:
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.startswith("--- ") and self._next().startswith("+++ "):
                self._file(_name(line), _name(self._next()))
            elif line.startswith("@@ -"):
                self._refuse(
                    line.strip(), "the hunk belongs to no file: '--- a/…' and '+++ b/…' lines must come before it"
                )
                return
            else:
                self._header(line)
                self._at += 1

    def check(self) -> None:
        self._check_makefiles()
        if not self.files and not self.refusals:
            self._refuse(
                "(whole diff)", "there is no change in it; give a unified diff as 'git diff' or 'diff -u' writes it"
            )
        paths = [patch.path for patch in self.files]
        for path in sorted({path for path in paths if paths.count(path) > 1}):
            self.refusals.append(Refusal(path, WHOLE_FILE, "the diff changes it in two places of its own; join them"))
        if self.refusals:
            raise RefusedError(self.refusals)

    def _check_makefiles(self) -> None:
        """A makefile may list the files that the diff adds, and no longer those that it removes, but no more."""
        whole = [patch.path for patch in self.files if patch.added or patch.removed]
        for patch in [patch for patch in self.files if is_makefile(patch.path)]:
            self.files.remove(patch)
            if not _lists_only(patch, whole):
                self.refusals.append(Refusal(patch.path, WHOLE_FILE, str(_bad_kind(patch.path))))

    def _next(self) -> str:
        return self._lines[self._at + 1] if self._at + 1 < len(self._lines) else ""

    def _header(self, line: str) -> None:
        if line.startswith("diff --git "):
            self._named = line.rsplit(" b/", 1)[-1].strip()
        for header, reason in _UNSUPPORTED_HEADERS.items():
            if line.startswith(header):
                self._refuse(WHOLE_FILE, reason)

    def _file(self, old: str, new: str) -> None:
        self._at += 2
        self._named = new if old == _NOWHERE else old
        patch = FilePatch("", added=old == _NOWHERE, removed=new == _NOWHERE)
        old, new = (new if patch.added else old), (old if patch.removed else new)
        for hunk in self._hunks():
            patch.hunks.append(hunk)
        reason = _bad_paths(old, new)
        if reason is None:
            patch.path = new.split("/", 1)[1]
            self._named = patch.path
            reason = None if is_makefile(patch.path) else _bad_kind(patch.path)
        if reason is not None:
            known = {(refusal.file, refusal.function) for refusal in self.refusals}
            if (_stripped(self._named), WHOLE_FILE) not in known:
                self.refusals.append(Refusal(_stripped(self._named), WHOLE_FILE, reason))
        elif not patch.hunks:
            self._refuse(WHOLE_FILE, "the diff has no hunk for it; it was cut off")
        elif all(text.endswith("\r\n") for hunk in patch.hunks for _mark, text in hunk.lines):
            self._refuse(WHOLE_FILE, "the diff's lines end with CR LF, the kernel's with LF; convert it (dos2unix)")
        else:
            self.files.append(patch)

    def _hunks(self) -> Iterator[Hunk]:
        number = 0
        while self._at < len(self._lines):
            match = _HUNK.match(self._lines[self._at])
            if match is None:
                return
            self._at += 1
            number += 1
            lines = self._hunk_lines(_count(match["old"]), _count(match["new"]))
            if lines is None:
                self._refuse(
                    f"hunk {number} ({match.group()})",
                    "the hunk has not the lines that its header counts; the diff was cut off or edited",
                )
                return
            yield Hunk(number, match.group(), int(match["start"]), tuple(lines))

    def _hunk_lines(self, old: int, new: int) -> list[tuple[str, str]] | None:
        lines: list[tuple[str, str]] = []
        while old > 0 or new > 0 or self._here().startswith(_NO_NEWLINE):
            line = self._here()
            if line.startswith(_NO_NEWLINE) and lines:
                lines[-1] = (lines[-1][0], lines[-1][1].rstrip("\n"))
            elif line[:1] in (" ", "-", "+", "\n") and line:
                # Mailers strip the blank of an empty context line.
                sign, text = (" ", "\n") if line == "\n" else (line[0], line[1:])
                old -= sign != "+"
                new -= sign != "-"
                lines.append((sign, text))
            else:
                return None
            self._at += 1
        return lines if (old, new) == (0, 0) else None

    def _here(self) -> str:
        return self._lines[self._at] if self._at < len(self._lines) else ""

    def _refuse(self, what: str, reason: str) -> None:
        self.refusals.append(Refusal(_stripped(self._named), what, reason))


def _name(line: str) -> str:
    """The name in a '--- ' or '+++ ' line: up to a tab, which a time stamp follows."""
    return line[4:].split("\t")[0].strip()


def _stripped(name: str) -> str:
    return name.split("/", 1)[1] if re.match(r"[ab]/", name) else name


def _count(text: str | None) -> int:
    return 1 if text is None else int(text)


def _bad_paths(old: str, new: str) -> str | None:
    """Why these two names can't be one file below the top of the source, or None."""
    for name in (old, new):
        parts = name.split("/")
        if not _PATH.fullmatch(name) or name.startswith("/") or ".." in parts or "." in parts or "" in parts:
            return "its name leads out of the kernel's source or has characters that no source file has"
        if len(parts) < 2:
            return "its name has no leading directory to strip; make the diff with 'git diff' or 'diff -u a/… b/…'"
    if old.split("/", 1)[1] != new.split("/", 1)[1]:
        return _UNSUPPORTED_HEADERS["rename from"]
    return None


def _bad_kind(path: str) -> str | None:
    """Why a file of this kind can't be patched, or None."""
    pure = PurePosixPath(path)
    for place, reason in _UNSUPPORTED_PLACES.items():
        if path.startswith(place + "/"):
            return reason + "; leave it out of the diff"
    if pure.suffix in (".c", ".h"):
        return None
    if pure.suffix in _UNSUPPORTED_KINDS:
        return _UNSUPPORTED_KINDS[pure.suffix]
    if is_makefile(path) or pure.name.startswith("Kconfig"):
        return "a change of the build's configuration has no effect on a running kernel; change C files only"
    return "only C source and headers can be patched"


def _lists_only(patch: FilePatch, paths: Iterable[str]) -> bool:
    """Whether each line that a makefile's hunks change names an object of one of *paths*, as "obj-y += new.o" does."""
    directory = PurePosixPath(patch.path).parent
    objects = {
        str(PurePosixPath(path).relative_to(directory).with_suffix(".o")) for path in paths if _below(path, directory)
    }
    lines = [text for hunk in patch.hunks for sign, text in hunk.lines if sign != " "]
    return all(objects & set(text.split()) for text in lines)


def _below(path: str, directory: PurePosixPath) -> bool:
    return directory in PurePosixPath(path).parents


def _places(patch: FilePatch, lines: list[str]) -> tuple[list[tuple[int, Hunk]], list[Refusal]]:
    """Where each hunk goes (index into *lines*), and a refusal for each that fits nowhere."""
    places: list[tuple[int, Hunk]] = []
    refusals = []
    offset = end = 0
    for hunk in patch.hunks:
        wanted = _wanted(hunk)
        fitting = _fitting(lines, hunk.old, wanted, end)
        place = wanted + offset if wanted + offset in fitting else fitting[0] if len(fitting) == 1 else None
        if place is None:
            reason = f"does not apply near line {hunk.start}: this kernel's source has other lines there"
            if fitting:
                at = ", ".join(str(line + 1) for line in fitting[:_SHOWN])
                reason = (
                    f"fits in {len(fitting)} places, but not at line {hunk.start}: lines {at}; give it more context"
                )
            refusals.append(Refusal(patch.path, f"hunk {hunk.number} ({hunk.title})", reason))
            continue
        offset, end = place - wanted, place + len(hunk.old)
        places.append((place, hunk))
    return places, refusals


_MOVED = (
    "applies at line {each.found}, not at line {each.said}, and the patch is asked for as strict; make the diff "
    "against the kernel that runs, or leave 'strict' out"
)


def _moved(patch: FilePatch, places: list[tuple[int, Hunk]]) -> tuple[Moved, ...]:
    return tuple(
        Moved(patch.path, f"hunk {hunk.number} ({hunk.title})", hunk.start, hunk.start + place - _wanted(hunk))
        for place, hunk in places
        if place != _wanted(hunk)
    )


def _wanted(hunk: Hunk) -> int:
    """Where the hunk says that it belongs, as an index."""
    return hunk.start - 1 if hunk.old else hunk.start


def _fitting(lines: list[str], old: list[str], wanted: int, lowest: int) -> list[int]:
    """The places from *lowest* on where *old* stands."""
    if not old:  # nothing tells where it belongs but its number
        return [wanted] if lowest <= wanted <= len(lines) else []
    places = range(lowest, len(lines) - len(old) + 1)
    return [place for place in places if lines[place] == old[0] and lines[place : place + len(old)] == old]


def _patched(lines: list[str], places: list[tuple[int, Hunk]]) -> list[str]:
    """The new lines, each with the line number that it has to have from there on, if it must be told."""
    result: list[str] = []
    at = 0
    number: int | None = None  # of the next line in the original, while a #line is due
    comment = _Comment()

    def put(text: str, original: int | None) -> None:
        nonlocal number
        if original is not None and number is not None and comment.may_tell(result):
            result.append(f"#line {original}\n")
            number = None
        result.append(text)
        comment.feed(text)

    for place, hunk in places:
        for index in range(at, place):
            put(lines[index], index + 1)
        at = place
        for sign, text in hunk.lines:
            if sign == "+":
                put(text, None)
                number = at + 1
            elif sign == "-":
                at += 1
                number = at + 1
            else:
                put(text, at + 1)
                at += 1
    for index in range(at, len(lines)):
        put(lines[index], index + 1)
    return result


class _Comment:
    """Knows whether a directive may stand between the lines fed so far and the next one."""

    _TOKEN = re.compile(r'/\*|\*/|//|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[()]')

    def __init__(self) -> None:
        self._inside = False
        self._depth = 0

    def feed(self, line: str) -> None:
        for token in self._TOKEN.findall(line):
            if self._inside:
                self._inside = token != "*/"
            elif token == "//":
                return
            elif token == "/*":
                self._inside = True
            elif token in "()":
                self._depth += 1 if token == "(" else -1
        if line.startswith("}"):  # conditional compilation may unbalance parentheses: start anew with each function
            self._depth = 0

    def may_tell(self, before: list[str]) -> bool:
        """Not in a comment, not in a macro's arguments, not in a continued line."""
        continued = bool(before) and before[-1].rstrip("\r\n").endswith("\\")
        return not self._inside and self._depth <= 0 and not continued
