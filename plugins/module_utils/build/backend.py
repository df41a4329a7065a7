# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backend a patch module is for: the core module, or the kernel's own livepatch.

Livepatch switches each task once it has left the patched set, and nothing else. A consistency that it can't give is
refused, never given in part. Nor can it force a single function: its `force` is an operator's, and for all tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.kpatch.fleet.plugins.module_utils.build.model import VMLINUX, Added, BuildError, EmittedObject
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import KPATCH, LIVEPATCH

AUTO = "auto"
CHOICES = (KPATCH, LIVEPATCH, AUTO)
UNDOES_RELOCATIONS = "clear_relocate_add"  # a function of arch/x86/kernel/module.c, from 6.3 on
_GIVEN_BY_LIVEPATCH = {"leave": "patched_set", "switch": "thread"}


def choose(
    asked: str, consistency: Mapping[str, str], config: Mapping[str, str], forced: Sequence[str] = ()
) -> tuple[str, str]:
    """The backend, and why; BuildError if the one that was *asked* for can't do it.

    *forced* are the functions that the patch forces.
    """
    against = _against_livepatch(consistency, config, forced)
    if asked == LIVEPATCH and against:
        raise BuildError(f"backend {LIVEPATCH}: {against}; ask for backend {KPATCH}, or for auto")
    if asked == AUTO and not against:
        return LIVEPATCH, f"auto: {LIVEPATCH} gives leave patched_set, switch thread, and the kernel has it"
    if asked == AUTO:
        return KPATCH, f"auto: {against}"
    return asked, "it was asked for"


def limits(backend: str, emitted: EmittedObject, undoes_relocations: bool) -> list[Added]:
    """What the backend can't do for this patch in this kernel.

    *undoes_relocations*: whether the kernel has UNDOES_RELOCATIONS. Without it livepatch leaves its relocations behind
    when a module goes, with it only when a hook refuses one that comes; when the module comes again the kernel takes
    them for damage. Seen on 6.1 and 6.12.
    """
    if backend != LIVEPATCH:
        return []
    refusing = {hook.object for hook in emitted.hooks if hook.kind == "pre_patch"}
    found = []
    for name in sorted(emitted.referenced - {VMLINUX}):
        when = [
            *(["it was unloaded"] if not undoes_relocations else []),
            *(["its pre_patch hook refused it"] if name in refusing else []),
        ]
        if when:
            reason = f"once {' or '.join(when)}, this kernel's livepatch can't patch it again: {_AGAIN}"
            found.append(Added(name, name, reason))
    return found


_AGAIN = "it can't be loaded ('Exec format error') before the patch has been unloaded and loaded anew"


def _against_livepatch(consistency: Mapping[str, str], config: Mapping[str, str], forced: Sequence[str]) -> str:
    """Why livepatch is out of the question; empty if it is not."""
    if config.get("CONFIG_LIVEPATCH") != "y":
        return "the kernel is built without CONFIG_LIVEPATCH"
    if dict(consistency) != _GIVEN_BY_LIVEPATCH:
        wanted = f"leave {consistency['leave']}, switch {consistency['switch']}"
        return f"livepatch can't give {wanted}, only leave patched_set, switch thread"
    if forced:
        return f"the patch forces {', '.join(forced)}, and livepatch can't force one function, only a whole transition"
    return ""
