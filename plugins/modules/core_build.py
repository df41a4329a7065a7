#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the core module for one kernel."""

from __future__ import annotations

DOCUMENTATION = r"""
module: core_build
short_description: Build the core module for one kernel
version_added: 1.0.0
author:
  - kpatch.fleet contributors (@kpatch-fleet)
description:
  - Builds C(kpatch.ko) for one kernel against its headers, and puts it into the store.
  - Builds nothing if the store has an artifact of the same inputs.
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
  - module: kpatch.fleet.patch_build
"""

EXAMPLES = r"""
- name: Look at the host
  kpatch.fleet.host_info:
  register: look

- name: Build the core module for its kernel
  kpatch.fleet.core_build:
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
  description: Empty; only source patches have hunks that may stand elsewhere.
  type: list
  elements: str
  returned: success
report:
  description: Null; only patches have a safety report.
  type: str
  returned: success
progress:
  description: What was done, step by step; the last one says what was built.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kpatch.fleet.plugins.module_utils.build import core_module
from ansible_collections.kpatch.fleet.plugins.module_utils.build.artifact import Result
from ansible_collections.kpatch.fleet.plugins.module_utils.build.identity import Identity
from ansible_collections.kpatch.fleet.plugins.module_utils.build.options import (
    CORE_BUILD,
    TOGETHER,
    core_request,
    perform,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.build.tree import Say


def main() -> None:
    module = AnsibleModule(argument_spec=CORE_BUILD, required_together=TOGETHER, supports_check_mode=True)
    options = module.params

    def build(say: Say) -> Result:
        kernel = Identity.of(options["kernel"], options["kernel_source"])
        request = core_request(options, kernel, options["sources"] or {})
        return core_module.build(request, module.check_mode, say)

    perform(module, build)


if __name__ == "__main__":
    main()
