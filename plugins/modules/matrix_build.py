#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the core module and every patch of a set for every kernel of a fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: matrix_build
short_description: Build the core module and a patch set for several kernels at once
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Builds what M(kpatch.fleet.core_build) and M(kpatch.fleet.patch_build) build, for each of O(kernels), several things
    at once. For each kernel the core module comes first. It is not built if all of O(patches) have
    V(livepatch) as their backend, which need none.
  - Builds nothing that the store has of the same inputs.
  - What can't be built keeps nothing else from being built, but for the patches of a kernel whose core module can't be.
    The module fails at the end, and RV(results) tells everything, of all kernels.
options:
  kernels:
    description:
      - The kernels to build for, as C(kernels) of the action M(kpatch.fleet.survey) has them.
    type: list
    elements: dict
    required: true
    suboptions:
      label:
        description: What the kernel is called in the output.
        type: str
        required: true
      kernel:
        description: The kernel, as C(kernel) in RV(kpatch.fleet.host_info#module:host) has it.
        type: dict
        required: true
        suboptions:
          release:
            description: Its release, as C(uname -r) prints it.
            type: str
            required: true
          version:
            description: Its version, as C(uname -v) prints it.
            type: str
            required: true
          build_id:
            description: Its GNU build id, in hex.
            type: str
            required: true
          machine:
            description: Its machine, as C(uname -m) prints it.
            type: str
            default: x86_64
      hosts:
        description: The hosts that run it. For the reader only.
        type: list
        elements: str
        default: []
  kernel_sources:
    description:
      - Where the source of each kernel is that is none of Debian's packages, and what was built of it; the others' come
        from their packages.
      - All of the very build that runs; what can be told of that is checked. The tree is copied and prepared once; if
        it changes in place, remove the prepared kernel from C(kernels/) in O(cache).
    type: list
    elements: dict
    default: []
    suboptions:
      release:
        description: The kernel's release, as C(uname -r) prints it.
        type: str
        required: true
      tree:
        description: The source, a clean tree with the distribution's patches applied; a directory on the builder.
        type: path
        required: true
      config:
        description: The configuration, as C(/boot/config-*) or C(.config).
        type: path
        required: true
      symvers:
        description: The file C(Module.symvers).
        type: path
        required: true
      vmlinux:
        description: The kernel's ELF file with its symbols; debug information isn't needed.
        type: path
        required: true
      modules:
        description: The directory with the modules as the hosts load them. Without it only vmlinux can be patched.
        type: path
      toolchain:
        description:
          - The root of a system whose programs built the kernel, with C(/usr) and C(/etc), compiler, binutils, make
            and what else the kernel's build needs. By default the builder's own programs.
        type: path
  patches:
    description:
      - The patch set. The options of each are those of M(kpatch.fleet.patch_build).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name, of 1 to 40 lower-case letters, digits and V(-), beginning with a letter.
        type: str
        required: true
      source:
        description: The source patch, a file on the controller.
        type: path
        required: true
      source_text:
        description: The text of the source patch. Set by the action plugin.
        type: str
      leave:
        description: What a task must have left before it switches to the new functions.
        type: str
        choices: [function, patched_set, kernel]
        default: patched_set
      switch:
        description: What switches to the new functions at once.
        type: str
        choices: [function, thread, kernel]
        default: kernel
      means:
        description: How a switch of the whole kernel comes about.
        type: str
        choices: [stopping, counting]
        default: stopping
      backend:
        description: What the patch module is for.
        type: str
        choices: [kpatch, livepatch, auto]
        default: kpatch
      replace:
        description: Whether the patch takes the place of every other patch of the same backend on a host.
        type: bool
        default: false
      strict:
        description: Whether each hunk of the diff has to fit at the very lines that it names.
        type: bool
        default: false
  jobs:
    description:
      - How many programs (compilers and the like) to run at once, and how many things to have under way.
      - By default as many as the builder has processors.
    type: int
extends_documentation_fragment:
  - kpatch.fleet.attributes
  - kpatch.fleet.attributes.action
  - kpatch.fleet.attributes.builder
  - kpatch.fleet.attributes.module_signer
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: kpatch.fleet.core_build
  - module: kpatch.fleet.patch_build
"""

EXAMPLES = r"""
- name: Build two patches for two kernels
  kpatch.fleet.matrix_build:
    kernels:
      - label: web
        kernel: "{{ hostvars.web1.look.host.kernel }}"
      - label: db
        kernel: "{{ hostvars.db1.look.host.kernel }}"
    patches:
      - name: demo-meminfo
        source: files/demo-meminfo.patch
      - name: demo-vlan
        source: files/demo-vlan.patch
    store: ~/.local/share/kpatch.fleet/store
  delegate_to: localhost
"""

RETURN = r"""
msg:
  description: What can't be built, and why. What was in the store before is untouched.
  type: str
  returned: on failure
results:
  description: What came of each build; for each kernel the core module first. Of a kernel whose core module can't be
    built there is nothing else.
  type: list
  elements: dict
  returned: always
  contains:
    what: {description: What was to be built in words., type: str, returned: always}
    label: {description: The kernel's label., type: str, returned: always}
    name: {description: "The patch's name; V(kpatch) is the core module.", type: str, returned: always}
    seconds: {description: How long it took., type: float, returned: always}
    changed: {description: Whether it was built or made current., type: bool, returned: when it was built}
    manifest: {description: As of patch_build., type: dict, returned: when it was built}
    signature: {description: As of patch_build., type: str, returned: when it was built}
    path: {description: As of patch_build., type: str, returned: when it was built}
    offsets: {description: As of patch_build., type: list, elements: str, returned: when it was built}
    report: {description: As of patch_build., type: str, returned: when it was built}
    msg: {description: "What went wrong, and the mend.", type: str, returned: when it was not built}
    refusals: {description: As of patch_build., type: list, elements: dict, returned: when it was not built}
"""

import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kpatch.fleet.plugins.module_utils import side_by_side
from ansible_collections.kpatch.fleet.plugins.module_utils.build import core_module, patch_module, safety
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result, signed
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.options import (
    KERNEL,
    PATCH,
    PLACE,
    SOURCE,
    TOGETHER,
    Answer,
    attempt,
    core_request,
    patch_request,
    sayer,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.run import limited, workers
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Say
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import CORE_NAME, LIVEPATCH

_ROW = {
    "label": {"type": "str", "required": True},
    "kernel": {"type": "dict", "required": True, "options": KERNEL},
    "hosts": {"type": "list", "elements": "str", "default": []},
}
_OPTIONS: dict[str, Any] = {
    "kernels": {"type": "list", "elements": "dict", "required": True, "options": _ROW},
    "kernel_sources": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"release": {"type": "str", "required": True}, **SOURCE},
    },
    "patches": {"type": "list", "elements": "dict", "default": [], "options": PATCH},
    "jobs": {"type": "int"},
    **PLACE,
}


class _Matrix:
    """All builds of the module's options."""

    def __init__(self, module: Any) -> None:
        self._module, self._options = module, module.params
        self._say = sayer(module)
        patches = self._options["patches"]
        # What 'auto' will choose is not known before the kernel is; without patches it is wanted for itself.
        self._with_core = not patches or any(patch["backend"] != LIVEPATCH for patch in patches)
        self._done, self._total = 0, len(self._options["kernels"]) * (self._with_core + len(patches))

    def chains(self) -> list[side_by_side.Chain]:
        return [chain for row in self._options["kernels"] for chain in self._of_kernel(row)]

    def _of_kernel(self, row: Mapping[str, Any]) -> list[side_by_side.Chain]:
        patches = [self._patch(row, patch) for patch in self._options["patches"]]
        if self._with_core:
            return [side_by_side.Chain(self._core(row), patches)]
        return [side_by_side.Chain(patch, []) for patch in patches]

    def _core(self, row: Mapping[str, Any]) -> side_by_side.Work:
        def build(say: Say) -> Result:
            request = core_request(self._options, self._identity(row), self._sources("core"))
            return core_module.build(request, self._module.check_mode, say)

        return self._work(row, CORE_NAME, "the core module", build)

    def _patch(self, row: Mapping[str, Any], patch: Mapping[str, Any]) -> side_by_side.Work:
        def build(say: Say) -> Result:
            request = patch_request(self._options, patch, self._identity(row), self._sources("patch"))
            return patch_module.build(request, self._module.check_mode, say)

        return self._work(row, patch["name"], patch["name"], build)

    def _identity(self, row: Mapping[str, Any]) -> Identity:
        sources = {source["release"]: source for source in self._options["kernel_sources"]}
        return Identity.of(row["kernel"], sources.get(row["kernel"]["release"]))

    def _sources(self, kind: str) -> Mapping[str, str]:
        found: Mapping[str, str] = (self._options["sources"] or {}).get(kind, {})
        return found

    def _work(self, row: Mapping[str, Any], name: str, title: str, build: Callable[[Say], Result]) -> side_by_side.Work:
        release = str(row["kernel"]["release"])
        key, check_mode = self._options["signing_key"], self._module.check_mode

        def say(line: str) -> None:
            # Builds say which kernel they are at; here the name has to be told, too.
            self._say(f"{release} {name}: {line.removeprefix(f'{release}: ')}")

        def work() -> Answer:
            started = time.monotonic()
            try:
                answer = attempt(f"{title} for kernel {release}", lambda: signed(build(say), key, check_mode))
            except Exception:  # a bug of ours: told in full, and no reason to lose what came of the other builds
                answer = {"msg": f"{title} for kernel {release}: {traceback.format_exc()}", "refusals": []}
            seconds = round(time.monotonic() - started, 1)
            self._done += 1
            say(f"{_came_to(answer)} ({seconds} s; {self._done} of {self._total})")
            what = f"{title} for {row['label']}"
            return {"what": what, "label": row["label"], "name": name, "seconds": seconds, **answer}

        return work


def _came_to(answer: Answer) -> str:
    if "msg" in answer:
        return "refused" if answer["refusals"] else "failed"
    return safety.outcome(answer["changed"], answer["manifest"], answer["report"])


def main() -> None:
    module = AnsibleModule(argument_spec=_OPTIONS, required_together=TOGETHER, supports_check_mode=True)
    jobs = module.params["jobs"] or workers()
    if jobs < 1:
        module.fail_json(msg=f"jobs can't be {jobs}: give a number from 1 on", results=[])
    with limited(jobs):
        answers = side_by_side.run(_Matrix(module).chains(), jobs)
    results = [answer for chain in answers for answer in chain]
    for result in results:
        for line in result.get("offsets", []):
            module.warn(f"{result['what']}: {line}")
    changed = any(result.get("changed") for result in results)
    failures = [result["msg"] for result in results if "msg" in result]
    if failures:
        module.fail_json(msg="\n".join(failures), results=results, changed=changed)
    module.exit_json(results=results, changed=changed)


if __name__ == "__main__":
    main()
