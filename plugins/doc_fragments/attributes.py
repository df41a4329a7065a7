# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several modules document in the same words: attributes, what is built and reaches a host, what is left alone."""

from __future__ import annotations


class ModuleDocFragment:
    """One attribute for each fragment."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in C(check_mode)), in diff mode.
  platform:
    description: Target OS families that can be operated against.
    platforms: linux
    support: full
"""

    ACTION = r"""
options: {}
attributes:
  action:
    description: Has a corresponding action plugin, so that some parts of the options can be executed on the controller.
    support: full
"""

    ROLLOUT = r"""
options:
  rollout:
    description:
      - The rollout's directory, on the controller.
    type: path
    required: true
"""

    BUILDER = r"""
options:
  store:
    description:
      - The store of artifacts, a directory on the builder.
    type: path
    required: true
  cache:
    description:
      - The directory on the builder for downloads and prepared kernels, some 2 GB for each kernel.
    type: path
    default: ~/.cache/kpatch.fleet
  signing_key:
    description:
      - The private key, a file on the builder, that signs the manifest of each artifact; of any kind that ssh-keygen(1)
        signs with, best C(ed25519). With a passphrase it has to be in ssh-agent.
      - Hosts with a file C(/etc/kpatch.fleet/allowed_signers), and stores with a file C(allowed_signers), take nothing
        else than what one of the keys in there has signed.
    type: path
  kmod:
    description:
      - The directory on the controller with the C of the collection. By default the one that came with it.
    type: path
  sources:
    description:
      - The C, by file name, or by kind and file name. Set by the action plugin, out of O(kmod).
    type: dict
  progress_file:
    description:
      - A file on the builder that each step is written to as it begins. Set by the action plugin, which shows them.
    type: path
"""

    KERNEL = r"""
options:
  kernel:
    description:
      - The kernel to build for, as C(kernel) in RV(kpatch.fleet.host_info#module:host) has it.
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
"""

    MODULE_SIGNER = r"""
options:
  module_key:
    description:
      - The private key, a file on the builder, that signs the kernel module in the kernel's own format; PEM, without a
        passphrase. With an RSA key the same inputs give the same bytes.
      - Needs O(module_certificate). Kernels that were started with C(module.sig_enforce=1), or that are locked down,
        take no other modules than those that a key of their keyrings has signed.
    type: path
  module_certificate:
    description:
      - The X.509 certificate of O(module_key), a file on the builder, by which the hosts' kernels trust it.
    type: path
"""

    KERNEL_SOURCE = r"""
options:
  kernel_source:
    description:
      - Where the kernel's source is, and what was built of it, for a kernel that is none of Debian's packages.
      - All of the very build that runs; what can be told of that is checked. The tree is copied and prepared once; if
        it changes in place, remove the prepared kernel from C(kernels/) in O(cache).
    type: dict
    suboptions:
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
"""

    KEEP = r"""
options:
  keep:
    description:
      - Names of patches, or patterns as C(net-*), that stay on though the patch set does not name them; those of
        another patch set on the same hosts, for instance.
    type: list
    elements: str
    default: []
"""

    ARTIFACT = r"""
options:
  store:
    description:
      - The store of artifacts, a directory on the controller.
      - Needed for every state that loads a module.
    type: path
  host:
    description:
      - What M(kpatch.fleet.host_info) has just returned as RV(kpatch.fleet.host_info#module:host).
      - Saves a look at the host. If the host is as wanted according to it, the host isn't contacted at all.
    type: dict
  artifacts:
    description:
      - What there is to load. Set by the action plugin, out of O(store).
    type: list
    elements: dict
    default: []
    suboptions:
      manifest:
        description:
          - The artifact's manifest.
        type: dict
        required: true
      src:
        description:
          - The artifact's path on the host, where the action plugin has put it if the host needs it.
        type: path
      signature:
        description:
          - The signature of the manifest, if it has one.
        type: str
  timeout:
    description:
      - How many seconds to try again while tasks are in the way, and to wait for a switch to end.
    type: float
    default: 30.0
  order:
    description:
      - A name for this order. The host goes on with it even if the connection is cut, and keeps its outcome until the
        next order or a reboot; M(kpatch.fleet.host_info) returns it under that name.
    type: str
  downgrade:
    description:
      - Whether an artifact may be older than one of the same module and kernel that the host has had before.
      - The host remembers the newest build that it has had, in a file that only root can read.
    type: bool
    default: false
"""
