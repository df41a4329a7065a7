# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which C files may include a file: the closure of #include over the text, whatever the preprocessor would make of it.

It follows every #include, those in branches that are not taken too, and where the compiler's options decide which file
a name means, all that it may mean. So it finds too many, never too few; the preprocessor then tells which of them
really change.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Callable

from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Say, Tree, remembered

_INCLUDE = re.compile(rb'[ \t]*#[ \t]*include(_next)?[ \t]*(?:(")([^"\n]+)"|<([^>\n]+)>)')
# #include CMD_LIST: who includes by a macro's name may include whatever a macro of that file spells.
_SPELLED = re.compile(rb'[ \t]*#[ \t]*define[ \t]+\w+[ \t]+["<]([^">\n]+\.[ch])[">]')
# What such lines have in them. A kernel's source is a gigabyte: what begins with a literal is found five times sooner
# than what begins a line.
_TELLING = (re.compile(rb"#[ \t]*include"), re.compile(rb'\.[ch][">]'))
_SUFFIXES = (".c", ".h", ".inc", ".S")
# Before any directory that a makefile adds (LINUXINCLUDE in the top makefile).
_ROOTS = ("arch/x86/include", "include", "arch/x86/include/uapi", "include/uapi")
# The compiler's -include options.
_ALWAYS = ("include/linux/compiler-version.h", "include/linux/kconfig.h", "include/linux/compiler_types.h")

Graph = dict[str, list[str]]


class Includes:
    """Which files of the kernel's source may include which; *texts* are those of files that a patch changes or adds."""

    def __init__(self, tree: Tree, texts: Mapping[str, str], say: Say) -> None:
        self._included = _graph(tree, say)
        resolver = Resolver([*self._included, *texts])
        for path, text in texts.items():
            self._included[path] = resolver.included(path, text.encode("utf-8", "surrogateescape"))
        self._users: dict[str, list[str]] = defaultdict(list)
        for user, included in self._included.items():
            for path in included:
                self._users[path].append(user)

    def includers(self, paths: Iterable[str]) -> set[str]:
        """The files that may include one of *paths*, directly or not."""
        return _reached(paths, lambda path: self._included if path in _ALWAYS else self._users[path])

    def included(self, paths: Iterable[str]) -> set[str]:
        """The files that one of *paths* may include, directly or not."""
        return _reached([*paths, *_ALWAYS], lambda path: self._included.get(path, ())).union(_ALWAYS)


def c_files(tree: Tree, say: Say) -> set[str]:
    """The C files that others include: fs/compat_binfmt_elf.c makes its functions of those in fs/binfmt_elf.c."""

    def read() -> str:
        targets = {path for included in _graph(tree, say).values() for path in included}
        return json.dumps(sorted(path for path in targets if path.endswith(".c")))

    return set(json.loads(remembered(tree, "included_c.json", read)))


def _reached(paths: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    reached: set[str] = set()
    work = list(paths)
    while work:
        fresh = set(following(work.pop())) - reached
        work += fresh
        reached |= fresh
    return reached


class Resolver:
    """Knows which files a name in an #include may mean."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = set(paths)
        self._by_basename: dict[str, list[str]] = defaultdict(list)
        for path in self._paths:
            self._by_basename[posixpath.basename(path)].append(path)

    def included(self, user: str, text: bytes) -> list[str]:
        """The files that *text*, the text of *user*, may include."""
        paths: set[str] = set()
        for start in _lines(text):
            if match := _INCLUDE.match(text, start):
                name = (match[3] or match[4]).decode("utf-8", "replace")
                paths.update(self._may_mean(user, name, quoted=bool(match[2]), following=bool(match[1])))
            elif match := _SPELLED.match(text, start):
                paths.update(self._anywhere(match[1].decode("utf-8", "replace")))
        return sorted(paths - {user})

    def _may_mean(self, user: str, name: str, quoted: bool, following: bool) -> list[str]:
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(user), name))
        if quoted and beside in self._paths:
            return [beside]
        for root in () if following else _ROOTS:
            if f"{root}/{name}" in self._paths:
                return [f"{root}/{name}"]
        if name.startswith("asm/") and not following:  # a generated header leads there
            generic = [f"{root}/asm-generic/{name[4:]}" for root in ("include", "include/uapi")]
            return [path for path in generic if path in self._paths]
        return self._anywhere(name)

    def _anywhere(self, name: str) -> list[str]:
        plain = posixpath.normpath(name)
        while plain.startswith("../"):
            plain = plain[3:]
        return [path for path in self._by_basename[posixpath.basename(name)] if f"/{path}".endswith(f"/{plain}")]


def _lines(text: bytes) -> set[int]:
    """Where the lines begin that may include something."""
    return {text.rfind(b"\n", 0, found.start()) + 1 for telling in _TELLING for found in telling.finditer(text)}


def _graph(tree: Tree, say: Say) -> Graph:
    def read() -> str:
        say(f"{tree.release}: reading which files of the kernel's source include which")
        return json.dumps(_read(tree.source))

    graph: Graph = json.loads(remembered(tree, "included.json", read))
    return graph


def _read(source: Path) -> Graph:
    """Of one file after the other: all of them at once would be a gigabyte of memory."""
    places = {}
    for directory, _subdirectories, files in os.walk(source):
        below = os.path.relpath(directory, source)
        for file in files:
            path = Path(directory, file)
            if file.endswith(_SUFFIXES) and path.is_file():  # a link into another architecture leads nowhere here
                places[posixpath.normpath(f"{below}/{file}")] = path
    resolver = Resolver(places)
    return {path: resolver.included(path, place.read_bytes()) for path, place in places.items()}
