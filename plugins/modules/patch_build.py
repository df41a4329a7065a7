#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a patch module for one kernel."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patch_build
short_description: Build a patch module for one kernel
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Makes a patch module of a source patch, without building the kernel. The files that the patch changes are compiled
    as the kernel's own build compiles them, with and without the patch, and compared by function.
  - What can't be patched is refused, with file, function and reason.
  - Builds nothing if the store has an artifact of the same inputs.
  - Beside the artifact lies its safety report, C(report.txt) and C(report.json), which says what it changes, why each
    function is in it, which risks were found, and which consistency suffices.
  - The core module for that kernel has to be in the store already, see M(kpatch.fleet.core_build), but for
    O(backend=livepatch), which needs none.
options:
  name:
    description:
      - The patch's name, of 1 to 40 lower-case letters, digits and V(-), beginning with a letter.
    type: str
    required: true
  source:
    description:
      - The source patch, a file on the controller. A unified diff as C(git diff) writes it.
    type: path
    required: true
  source_text:
    description:
      - The text of the source patch. Set by the action plugin, out of O(source).
    type: str
  leave:
    description:
      - What a task must have left before it switches to the new functions.
      - V(function) is the function that it is about to call anew, V(patched_set) every function that the patch
        replaces, V(kernel) the kernel.
    type: str
    choices: [function, patched_set, kernel]
    default: patched_set
  switch:
    description:
      - What switches to the new functions at once, each function by itself, each thread by itself, or everything.
    type: str
    choices: [function, thread, kernel]
    default: kernel
  means:
    description:
      - How a switch of the whole kernel comes about, for O(leave=patched_set) with O(switch=kernel) only.
      - With V(stopping) the machine is stopped while the stacks are checked; with V(counting) calls are counted in and
        out, and nothing stops.
    type: str
    choices: [stopping, counting]
    default: stopping
  backend:
    description:
      - What the patch module is for, the core module (V(kpatch)) or the kernel's own livepatch (V(livepatch)), which
        gives O(leave=patched_set) with O(switch=thread) and nothing else.
      - V(auto) takes livepatch where it gives what O(leave) and O(switch) ask for and the kernel has it, and the core
        module otherwise; the safety report says which, and why.
    type: str
    choices: [kpatch, livepatch, auto]
    default: kpatch
  replace:
    description:
      - Whether the patch takes the place of every other patch of the same backend on a host, in the switch in which it
        comes. It then has to contain all that is to stay.
      - Patches of the core module that are replaced have their own unpatch hooks called; those of the kernel's own
        livepatch have not.
    type: bool
    default: false
  strict:
    description:
      - Whether each hunk of the diff has to fit at the very lines that it names. Without this, it may stand elsewhere
        in the file if it fits in that one place, which is told in RV(offsets), in a warning and in the safety report.
      - Lines that differ from the hunk's are refused in any case.
    type: bool
    default: false
extends_documentation_fragment:
  - kpatch.fleet.attributes
  - kpatch.fleet.attributes.action
  - kpatch.fleet.attributes.builder
  - kpatch.fleet.attributes.kernel
  - kpatch.fleet.attributes.kernel_source
  - kpatch.fleet.attributes.module_signer
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: kpatch.fleet.core_build
  - module: kpatch.fleet.patch
"""

EXAMPLES = r"""
- name: Look at the host
  kpatch.fleet.host_info:
  register: look

- name: Build a patch for its kernel
  kpatch.fleet.patch_build:
    name: demo-meminfo
    source: files/demo-meminfo.patch
    kernel: "{{ look.host.kernel }}"
    store: ~/.local/share/kpatch.fleet/store
  delegate_to: localhost
"""

RETURN = r"""
msg:
  description: What went wrong, and the mend. What was in the store before is untouched.
  type: str
  returned: on failure
refusals:
  description: Why this can not become a patch module, everything at once.
  type: list
  elements: dict
  returned: on failure
  contains:
    file: {description: The file of the kernel's source., type: str, returned: always}
    function: {description: "The function, or what else is meant.", type: str, returned: always}
    reason: {description: The reason., type: str, returned: always}
manifest:
  description: The manifest of the artifact. In check mode null if it would be built.
  type: dict
  returned: success
signature:
  description: The signature of the manifest; null if it is not signed.
  type: str
  returned: success
path:
  description: Its directory in the store. In check mode null if it would be built.
  type: str
  returned: success
offsets:
  description: The hunks that stand at other lines of the kernel's source than the diff says, one sentence for each.
  type: list
  elements: str
  returned: success
report:
  description: The safety report beside the artifact, for its reader. In check mode null if it would be built.
  type: str
  returned: success
progress:
  description: What was done, step by step; the last one says what was built and where its safety report is.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kpatch.fleet.plugins.module_utils.build import patch_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.options import (
    PATCH_BUILD,
    TOGETHER,
    patch_request,
    perform,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Say


def main() -> None:
    module = AnsibleModule(argument_spec=PATCH_BUILD, required_together=TOGETHER, supports_check_mode=True)
    options = module.params

    def build(say: Say) -> Result:
        kernel = Identity.of(options["kernel"], options["kernel_source"])
        request = patch_request(options, options, kernel, options["sources"] or {})
        return patch_module.build(request, module.check_mode, say)

    perform(module, build)


if __name__ == "__main__":
    main()
