# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out before a load whether the host would refuse it, and says why.

What needs only the host's state as data is here for the controller as well, which so refuses before a transfer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kpatch.fleet.plugins.module_utils import signature
from ansible_collections.kpatch.fleet.plugins.module_utils.host.elf import ElfError, is_signed, modinfo
from ansible_collections.kpatch.fleet.plugins.module_utils.host.errors import HostError
from ansible_collections.kpatch.fleet.plugins.module_utils.manifest import LIVEPATCH, dump

Host = dict[str, Any]
_ALLOWED = f"etc/kpatch.fleet/{signature.ALLOWED}"
Manifest = dict[str, Any]


def check_host(host: Host, manifest: Manifest, image: bytes | None) -> None:
    """Raise HostError if the kernel of *host* would not take the artifact; *image* is its .ko if at hand."""
    check_kernel(host["kernel"], manifest)
    if image is not None:
        check_vermagic(image, manifest)
        check_signature(host["kernel"], manifest, is_signed(image))
    check_loading_allowed(host["kernel"], manifest["module"])
    check_foreign(host["livepatches"], manifest)
    check_livepatch(host["kernel"], manifest)


def check_kernel(kernel: dict[str, Any], manifest: Manifest) -> None:
    """The artifact is for this very kernel: the same release built again is another kernel."""
    for key, what in (("release", "release"), ("build_id", "build id")):
        if kernel[key] != manifest["kernel"][key]:
            raise HostError(
                "wrong-kernel",
                f"{manifest['module']} is for the kernel {what} {manifest['kernel'][key]}, but the host runs "
                f"{kernel[key] or 'one that does not tell it'}; build it for this kernel",
            )


def check_vermagic(image: bytes, manifest: Manifest) -> None:
    """The module itself says which kernel it was compiled for; it agrees with the manifest."""
    try:
        vermagic = modinfo(image).get("vermagic", "")
    except ElfError as error:
        raise HostError("wrong-vermagic", f"{manifest['file']}: {error}; build it again") from error
    wanted = manifest["kernel"]
    if vermagic != wanted["vermagic"] or vermagic.split(" ")[0] != wanted["release"]:
        raise HostError(
            "wrong-vermagic",
            f"{manifest['file']}: its vermagic is {vermagic!r}, but the manifest says {wanted['vermagic']!r} "
            f"for {wanted['release']}; build it again",
        )


def check_signature(kernel: dict[str, Any], manifest: Manifest, signed: bool) -> None:
    """A kernel that insists on signatures takes no unsigned module, and none by a key that it does not know.

    Whether a known key's signature is valid, and whether that key may sign modules, only the kernel can tell.
    """
    module = manifest["module"]
    locked, enforced = kernel["lockdown"] != "none", kernel["signatures_enforced"]
    if not locked and not enforced:
        return
    insists = f"it is locked down ({kernel['lockdown']})" if locked else "it was started with module.sig_enforce=1"
    if not signed:
        raise HostError(
            "lockdown" if locked else "signature",
            f"{module} is not signed and the kernel takes signed modules only, for {insists}; build it with "
            "module_key and module_certificate of a key that the kernel trusts",
        )
    signer, trusted = manifest.get("signer"), kernel.get("trusted_keys")
    if signer is not None and trusted is not None and not _same_key(signer["key_id"], trusted):
        raise HostError(
            "signature",
            f"{module} is signed by '{signer['subject']}' (key {signer['key_id']}), which is in none of the kernel's "
            f"keyrings (/proc/keys), and the kernel takes modules of trusted keys only, for {insists}; enrol the "
            "certificate, or sign with a key that the kernel trusts",
        )


def _same_key(key_id: str, trusted: list[str]) -> bool:
    """Serial numbers, which name keys of certificates without a key identifier, may begin with zeros."""
    return key_id.lstrip("0") in [each.lstrip("0") for each in trusted]


def check_loading_allowed(kernel: dict[str, Any], module: str) -> None:
    """kernel.modules_disabled can't be taken back before a reboot."""
    if kernel["modules_disabled"]:
        raise HostError(
            "modules-disabled",
            f"{module} can't be loaded: kernel.modules_disabled is 1 and stays so until a reboot",
        )


def check_core(host: Host, manifest: Manifest) -> None:
    """A patch needs the core module, with the interface that it was compiled for."""
    if manifest["kind"] == "core" or manifest["backend"] == LIVEPATCH:
        return
    core = host["core"]
    if core is None:
        raise HostError(
            "core-missing",
            f"{manifest['module']} needs the core module, which is not loaded; load it first (kpatch.fleet.core)",
        )
    if core["abi"] != manifest["abi"]:
        raise HostError(
            "core-mismatch",
            f"{manifest['module']} needs a core module with ABI {manifest['abi']}, the loaded one has {core['abi']}; "
            "build both from one release of the collection",
        )


def check_signer(root: Path, manifest: Manifest, given: str | None) -> None:
    """Where the host names who may sign, one of them has signed the manifest."""
    try:
        signature.verify(dump(manifest), given, root / _ALLOWED, f"the manifest of {manifest['module']}")
    except signature.SignatureError as error:
        raise HostError("signature", str(error)) from error


def check_livepatch(kernel: dict[str, Any], manifest: Manifest) -> None:
    """A patch for the kernel's own livepatch needs a kernel that has it."""
    if manifest["backend"] == LIVEPATCH and not kernel.get("livepatch", True):
        raise HostError(
            "wrong-kernel",
            f"{manifest['module']} was built for livepatch, which the running kernel does not have "
            "(/sys/kernel/livepatch); build it with backend kpatch",
        )


def check_foreign(livepatches: list[dict[str, Any]], manifest: Manifest) -> None:
    """The kernel's own livepatch and ours can't hold the same function; the later one would be refused."""
    ours = {_function_key(function["object"], function) for function in manifest["functions"]}
    for patch in livepatches:
        for target in patch["objects"]:
            for function in target["functions"]:
                if _function_key(target["name"], function) in ours:
                    raise HostError(
                        "foreign-patch",
                        f"{manifest['module']} replaces {function['name']} of {target['name']}, which the live patch "
                        f"{patch['module']} has replaced already; remove that one first",
                    )


def _function_key(target: str, function: dict[str, Any]) -> tuple[str, str, int]:
    # 0 and 1 both mean the first symbol of that name.
    return target, function["name"], max(function["sympos"], 1)
