# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kbuild, asked for single objects and for external modules, and its compile commands replayed.

The prepared tree has everything generated already; ``-o prepare`` tells make so. Make does not hand ``-o`` down,
so the variables that it would set before it calls itself anew are set here, and it does not.
"""

from __future__ import annotations

import fcntl
import functools
import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ansible_collections.kpatch.fleet.plugins.module_utils.build import generators
from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import (
    VMLINUX,
    BuildError,
    Refusal,
    RefusedError,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import Arg, clean_environment, workers
from ansible_collections.kpatch.fleet.plugins.module_utils.build.source_patch import WHOLE_FILE
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Say, Tree

_SECTIONED = ("-ffunction-sections", "-fdata-sections")
_UP_TO_DATE = ("prepare", "prepare0", "archprepare", "scripts", "scripts_basic", "outputmakefile")
_ERROR_LINES = 3

# Kbuild's compiler while it is only asked: what it compiles is nothing. The lists of included files name the source.
_STAND_IN = """#!/bin/sh
list= out= last=
for word; do
    case $word in -Wp,-MMD,*) list=${{word#-Wp,-MMD,}} ;; esac
    [ "$last" != -o ] || out=$word
    last=$word
done
[ -n "$list" ] || exec {compiler} "$@"
echo "$out: $last" > "$list"
exec {compiler} -c -x c /dev/null -o "$out"
"""


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


def make(
    tree: Tree,
    *arguments: str,
    external: Path | None = None,
    first: Path | None = None,
    say: Say = lambda _line: None,
) -> str:
    """Run kbuild in the prepared tree and return what it and the compiler said; one at a time.

    It makes the external module in the directory *external*, or else objects of the kernel. Programs are looked for
    in the directory *first* before all others.
    """
    command, cwd = _make(tree, external)
    run = functools.partial(tree.tools.run, [*command, *arguments], cwd, warnings=True, first=first)
    with (tree.objects / ".kpatch-lock").open("w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            return run()
        except BuildError as error:
            if not generators.lacking(str(error)) or not generators.add(tree, say):
                raise
        return run()


def _make(tree: Tree, external: Path | None) -> tuple[list[Arg], Path]:
    """The command that needs only goals, and where to run it."""
    source, objects = tree.source, tree.objects
    cwd = _directory(tree, external)
    settings = [
        "sub_make_done=1",
        "need-sub-make=",
        f"abs_srctree={source}",
        f"abs_objtree={objects}",
        f"abs_output={cwd}",
        f"objtree={'.' if cwd == objects else objects}",
        f"srcroot={source if cwd == objects else cwd}",
        f"CC={tree.cc}",
        # By its path: a stand-in for the compiler is none for what runs here.
        f"HOSTCC={tree.tools.which(tree.cc)}",
        "KBUILD_VERBOSE=",
        "KBUILD_CHECKSRC=0",
    ]
    if external is not None:
        # Nothing in an external module tells where it was made.
        settings += [f"KBUILD_EXTMOD={external}", f"KCFLAGS=-g0 -ffile-prefix-map={external}/="]
    old = [flag for target in _UP_TO_DATE for flag in ("-o", target)]
    # 5.10 includes its makefiles by paths in the source.
    return ["make", "-rR", "-s", "-I", source, "-f", source / "Makefile", *settings, *old], cwd


def _directory(tree: Tree, external: Path | None) -> Path:
    """Where kbuild's commands run: in its objects, but from 6.13 on in an external module's own directory."""
    if external is not None and "\nexport objtree srcroot\n" in (tree.source / "Makefile").read_text(encoding="utf-8"):
        return external
    return tree.objects


def units(
    tree: Tree, built: Mapping[str, Sequence[str]], say: Say = lambda _line: None
) -> tuple[list[Unit], list[Refusal]]:
    """How each of *built*, C files and what they are part of, is compiled; and of which kbuild can't tell.

    Kbuild is asked for all at once, with a compiler that makes empty objects: the commands are what counts.
    """
    missing = [source for source in built if not _commands_file(tree.objects, _target(source)).is_file()]
    said = ""
    if missing:
        with tempfile.TemporaryDirectory(prefix="kpatch-cc-") as directory:
            stand_in = Path(directory, tree.cc)
            stand_in.write_text(_STAND_IN.format(compiler=tree.tools.which(tree.cc)), encoding="utf-8")
            stand_in.chmod(0o755)
            try:
                # On kernels with IBT kbuild leaves objtool to the link of vmlinux; objects by themselves need it too.
                goals = [f"-j{workers()}", "objtool-enabled=y", *map(_target, missing)]
                make(tree, "-k", *goals, first=Path(directory), say=say)
            except BuildError as error:
                said = str(error)
    found: list[Unit] = []
    refusals: list[Refusal] = []
    for source in built:
        unit = _known_unit(tree, source)
        if unit is None:
            refusals.append(
                Refusal(source, WHOLE_FILE, f"kbuild can't tell how it is compiled: {_about(said, source)}")
            )
        else:
            found += [replace(unit, object=name) for name in built[source]]
    return found, refusals


def _known_unit(tree: Tree, source: str) -> Unit | None:
    commands = _commands_file(tree.objects, _target(source))
    return parse_command(source, commands.read_text(encoding="utf-8")) if commands.is_file() else None


def new_unit(like: Unit, source: str) -> Unit:
    """How a new file is compiled that becomes part of what *like* is part of."""
    basename = f'-DKBUILD_BASENAME="{PurePosixPath(source).stem.replace("-", "_")}"'
    words = (basename if word.startswith("-DKBUILD_BASENAME=") else word for word in like.compiler)
    return replace(like, source=source, compiler=tuple(word.replace(like.source, source) for word in words))


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
    command = _command(tree, which, out, overlay)
    extra = [*(_SECTIONED if sectioned else ()), "-g0"]
    try:
        tree.tools.run([command[0], *command[1:-1], *extra, command[-1]], cwd=tree.objects)
    except BuildError as error:
        said = str(error).replace(f"{overlay}/", "")
        raise _refused(which.source, f"it does not compile: {_first_errors(said)}") from error
    _objtool(tree, which, out)


def compile_nothing(tree: Tree, which: Unit, out: Path) -> None:
    """What *which* would be if its file were empty."""
    command = list(_redirected(which.compiler, out))
    tree.tools.run([*command[:-1], *_SECTIONED, "-g0", "-x", "c", "/dev/null"], cwd=tree.objects)


def _objtool(tree: Tree, which: Unit, out: Path) -> None:
    if which.objtool:
        tree.tools.run([*which.objtool[:-1], out], cwd=tree.objects, env={**clean_environment(), "SRCARCH": "x86"})


def preprocessed(tree: Tree, which: Unit, overlay: Path | None = None) -> str:
    """What the compiler gets to see of *which*, without the lines' numbers and without empty lines."""
    try:
        text = tree.tools.run([*_command(tree, which, Path("-"), overlay), "-E", "-P"], cwd=tree.objects)
    except BuildError as error:
        raise _refused(which.source, f"it does not compile: {_first_errors(str(error))}") from error
    text = text.replace(f"{overlay}/", f"{tree.source}/")
    return "\n".join(line for line in text.splitlines() if line)


def _command(tree: Tree, which: Unit, out: Path, overlay: Path | None) -> list[str]:
    command = list(_redirected(which.compiler, out))
    return command if overlay is None else [_moved(word, tree.source, overlay) for word in command]


def external_objects(tree: Tree, directory: Path, *targets: str) -> None:
    """Make single objects of the external module in *directory*."""
    make(tree, "objtool-enabled=y", *targets, external=directory)


def external_modules(tree: Tree, directory: Path, *variables: str) -> None:
    """Make the external modules in *directory*, as its own makefile says; *variables* are make's."""
    said = make(tree, "CONFIG_MODULE_SRCVERSION_ALL=y", *variables, "modules", external=directory)
    complaints = [line for line in said.splitlines() if "warning:" in line]
    if complaints:
        # Not a matter of style: on 6.12 objtool leaves the return thunks of code that it complains of unpatched.
        raise BuildError(f"kernel {tree.release}: our own C compiles with warnings:\n" + "\n".join(complaints))


def replay(tree: Tree, directory: Path, made: str, instead: str) -> None:
    """Compile *instead*.c in *directory* with the command that made *made*.o there."""
    text = _commands_file(directory, f"{made}.o").read_text(encoding="utf-8")
    found = parse_command(f"{made}.c", text)
    command = list(_redirected(found.compiler, directory / f"{instead}.o"))
    tree.tools.run([*command[:-1], str(directory / f"{instead}.c")], cwd=_directory(tree, directory))


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


def _target(source: str) -> str:
    return source.removesuffix(".c") + ".o"


def _about(said: str, source: str) -> str:
    """The lines of make's output that name the object or the source, or its last one."""
    lines = [line for line in said.splitlines() if _target(source) in line or f"/{source}" in line]
    return "; ".join(lines[:_ERROR_LINES]) or said[-200:].strip() or "it is not among what it builds"


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
