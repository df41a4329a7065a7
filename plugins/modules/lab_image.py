#!/usr/bin/python
# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the root image that the lab's virtual machines boot from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_image
short_description: Make the root image of the lab's virtual machines
version_added: 1.0.0
description:
  - Makes a Debian root file system with one or more kernels, by mmdebstrap, and packs it into a disk image.
  - The image is named by what it is made of, kernel versions included. An image that is there is used again.
  - It appears complete or not at all.
options:
  cache:
    description: Directory for images; it is made if it isn't there. The image takes about 1 GB.
    type: path
    required: true
  suite:
    description: The Debian suite. One that this machine's apt sources don't offer comes from the same mirrors.
    type: str
    default: bookworm
  kernels:
    description:
      - The kernels to install, C(series to Debian package), for example C(6.1) to C(linux-image-cloud-amd64).
      - The package is a kernel's image, or a metapackage which depends on it.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: Says whether an image would be made.
  diff_mode:
    support: none
    description: An image is not shown as a difference.
requirements:
  - mmdebstrap, e2fsprogs and openssh-client on the machine that carries the lab
author:
  - kpatch.fleet contributors (@kpatch-fleet)
"""

EXAMPLES = r"""
- name: Make an image with two kernels
  kpatch.fleet.lab_image:
    cache: /var/cache/kpatch.fleet
    kernels:
      "6.1": linux-image-cloud-amd64
      "6.12": linux-image-6.12-cloud-amd64
"""

RETURN = r"""
path:
  description: The image's directory; null in check mode if there is none yet.
  returned: success
  type: str
kernels:
  description: Release of each kernel in the image, by series.
  returned: success
  type: dict
  sample: {"6.1": "6.1.0-56-cloud-amd64"}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kpatch.fleet.plugins.module_utils.archive import ArchiveError
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import image
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import LabError


def main() -> None:
    """Module entry point."""
    module = AnsibleModule(
        argument_spec={
            "cache": {"type": "path", "required": True},
            "suite": {"type": "str", "default": "bookworm"},
            "kernels": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    packages = {str(series): str(package) for series, package in module.params["kernels"].items()}
    try:
        made, changed = image.ensure(
            Path(module.params["cache"]), module.params["suite"], packages, build=not module.check_mode
        )
    except (LabError, ArchiveError) as error:
        module.fail_json(msg=str(error))
    kernels = {series: kernel.release for series, kernel in made.kernels.items()} if made else {}
    module.exit_json(changed=changed, path=str(made.path) if made else None, kernels=kernels)


if __name__ == "__main__":
    main()
