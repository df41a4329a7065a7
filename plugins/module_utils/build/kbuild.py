# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kbuild, asked for single objects and for external modules, and its compile commands replayed.

The prepared tree has everything generated already; ``-o prepare`` tells make so. Make does not hand ``-o`` down,
so the variables that it would set before it calls itself anew are set here, and it does not.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    VMLINUX,
    BuildError,
    Refusal,
    RefusedError,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import clean_environment
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import WHOLE_FILE
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Tree

_SECTIONED = ("-ffunction-sections", "-fdata-sections")
_UP_TO_DATE = ("prepare", "prepare0", "archprepare", "scripts", "scripts_basic", "outputmakefile")
_NOT_BUILT = ("No rule to make target", "Nothing to be done")
_ERROR_LINES = 3


@dataclass(frozen=True)
class Unit:
    """How kbuild makes one object file of the kernel; the commands run in the tree's ``objects/``."""

    source: str  # "fs/proc/meminfo.c"
    object: str  # "vmlinux" or a module's name
    compiler: tuple[str, ...]
    objtool: tuple[str, ...]  # empty if the object is exempt from it

    @property
    def traced(self) -> bool:
        """Whether its functions call the function tracer, through which they are redirected."""
        return "-mfentry" in self.compiler


def make(tree: Tree, *arguments: str) -> str:
    """Run kbuild in the prepared tree and return what it and the compiler said; the caller holds the kernel's lock."""
    source, objects = tree.source, tree.objects
    settings = [
        "sub_make_done=1",
        "need-sub-make=",
        f"abs_srctree={source}",
        f"abs_objtree={objects}",
        f"CC={tree.cc}",
        "KBUILD_VERBOSE=",
    ]
    old = [flag for target in _UP_TO_DATE for flag in ("-o", target)]
    return tree.tools.run(
        ["make", "-rR", "-s", "-f", source / "Makefile", *settings, *old, *arguments], objects, warnings=True
    )


def unit(tree: Tree, source: str) -> Unit:
    """How *source* is compiled; raise RefusedError if this kernel has no object of it."""
    target = source.removesuffix(".c") + ".o"
    commands = _commands_file(tree.objects, target)
    if not commands.is_file():
        try:
            # On kernels with IBT kbuild leaves objtool to the link of vmlinux; objects by themselves need it too.
            make(tree, "objtool-enabled=y", target)
        except BuildError as error:
            why = "" if any(sign in str(error) for sign in _NOT_BUILT) else f" ({_first_errors(str(error))})"
            raise not_built(tree, source, why) from error
    if not commands.is_file():
        raise not_built(tree, source)
    found = parse_command(source, commands.read_text(encoding="utf-8"))
    if not found.traced:
        raise _refused(
            source, "it is compiled without calls to the function tracer, so nothing in it can be redirected"
        )
    return found


def not_built(tree: Tree, source: str, why: str = "") -> RefusedError:
    """The refusal of a file that this kernel has no object of."""
    reason = f"kernel {tree.release} is built without it, or includes it in another file; leave it out of the diff"
    return _refused(source, reason + why)


def parse_command(source: str, text: str) -> Unit:
    """The unit that the first line of a ``.foo.o.cmd`` tells of: ``cmd_foo.o := gcc … ; objtool … foo.o``."""
    line = text.split("\n", 1)[0].split(" := ", 1)[1]
    words = shlex.split(line.replace("$(pound)", "\\#").replace("$$", "$"))
    commands: list[list[str]] = [[]]
    for word in words:
        if word == ";":
            commands.append([])
        else:
            commands[-1].append(word)
    objtool = next((command for command in commands[1:] if command and command[0].endswith("/objtool")), [])
    return Unit(source, _object(commands[0]), tuple(commands[0]), tuple(objtool))


def compile_unit(tree: Tree, which: Unit, out: Path, sectioned: bool = False, overlay: Path | None = None) -> None:
    """Make *which* at *out* as the kernel's build makes it, but without debug information.

    *sectioned* puts each function and each variable into a section of its own; *overlay* is a view of the
    source to compile instead of the tree's.
    """
    command = list(_redirected(which.compiler, out))
    if overlay is not None:
        command = [_moved(word, tree.source, overlay) for word in command]
    extra = [*(_SECTIONED if sectioned else ()), "-g0"]
    try:
        tree.tools.run([command[0], *command[1:-1], *extra, command[-1]], cwd=tree.objects)
    except BuildError as error:
        said = str(error).replace(f"{overlay}/", "")
        raise _refused(which.source, f"it does not compile: {_first_errors(said)}") from error
    if which.objtool:
        tree.tools.run([*which.objtool[:-1], out], cwd=tree.objects, env={**clean_environment(), "SRCARCH": "x86"})


def external_objects(tree: Tree, directory: Path, *targets: str) -> None:
    """Make single objects of the external module in *directory*."""
    make(tree, *_external(directory), "objtool-enabled=y", *targets)


def external_modules(tree: Tree, directory: Path, *variables: str) -> None:
    """Make the external modules in *directory*, as its own makefile says; *variables* are make's."""
    said = make(tree, *_external(directory), "CONFIG_MODULE_SRCVERSION_ALL=y", *variables, "modules")
    complaints = [line for line in said.splitlines() if "warning:" in line]
    if complaints:
        # Not a matter of style: on 6.12 objtool leaves the return thunks of code that it complains of unpatched.
        raise BuildError(f"kernel {tree.release}: our own C compiles with warnings:\n" + "\n".join(complaints))


def _external(directory: Path) -> tuple[str, ...]:
    """Nothing in an external module tells where it was made."""
    return (f"KBUILD_EXTMOD={directory}", f"KCFLAGS=-g0 -ffile-prefix-map={directory}/=")


def replay(tree: Tree, directory: Path, made: str, instead: str) -> None:
    """Compile *instead*.c in *directory* with the command that made *made*.o there."""
    text = _commands_file(directory, f"{made}.o").read_text(encoding="utf-8")
    found = parse_command(f"{made}.c", text)
    command = list(_redirected(found.compiler, directory / f"{instead}.o"))
    tree.tools.run([*command[:-1], str(directory / f"{instead}.c")], cwd=tree.objects)


def link(tree: Tree, objects: Iterable[Path], out: Path) -> None:
    """Link *objects* as kbuild links a module's parts (scripts/Makefile.modfinal)."""
    script = next((tree.objects / place for place in _SCRIPTS if (tree.objects / place).is_file()), None)
    if script is None:
        raise BuildError(f"kernel {tree.release}: its headers have no linker script for modules (module.lds)")
    objects = list(objects)
    for path in objects:
        # Sections that list the padding before functions, which nothing reads on x86; ld wants all of them ordered
        # (SHF_LINK_ORDER) or none.
        tree.tools.run(["objcopy", "--remove-section=__patchable_function_entries", path])
    flags = ["-r", "-m", "elf_x86_64", "-z", "noexecstack", "--build-id=sha1"]
    tree.tools.run(["ld", *flags, "-T", script, "-o", out, *objects])


_SCRIPTS = ("arch/x86/module.lds", "scripts/module.lds")


def _commands_file(directory: Path, target: str) -> Path:
    path = directory / target
    return path.with_name(f".{path.name}.cmd")


def _object(command: list[str]) -> str:
    if "-DMODULE" not in command:
        return VMLINUX
    prefix = '-DKBUILD_MODNAME="'
    names = [word[len(prefix) : -1] for word in command if word.startswith(prefix)]
    if len(names) != 1:
        raise BuildError(f"{command[-1]}: its compile command names no module")
    return names[0].replace("-", "_")


def _redirected(command: tuple[str, ...], out: Path) -> Iterable[str]:
    """The compile command with another output, and without the list of included files."""
    following = False
    for word in command:
        if following:
            yield str(out)
        elif not word.startswith("-Wp,-MMD,"):
            yield word
        following = word == "-o"


def _moved(word: str, source: Path, overlay: Path) -> str:
    return word.replace(f"{source}/", f"{overlay}/")


def _refused(source: str, reason: str) -> RefusedError:
    return RefusedError([Refusal(source, WHOLE_FILE, reason)])


def _first_errors(said: str) -> str:
    errors = [line.strip() for line in said.splitlines() if "error:" in line]
    return "; ".join(errors[:_ERROR_LINES]) or said
