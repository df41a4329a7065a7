# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One root image: a Debian suite with the kernels of the lab, made by mmdebstrap without mounting anything."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.kpatch.fleet.plugins.module_utils.archive import Archive, open_archive
from ansible_collections.kpatch.fleet.plugins.module_utils.lab import initrd
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.base import (
    LabError,
    digest,
    locked,
    need_space,
    published,
    read_json,
    run,
    write_whole,
)
from ansible_collections.kpatch.fleet.plugins.module_utils.lab.machine import GUEST_ADDRESS, Boot

# Raise it when what is written into the image changes: it is one of the inputs that name an image.
_RECIPE = 1
READY_MARK = "kpatch-lab: ready"
# All VMs of an image answer with one host key, known under this name whatever the port.
HOST_ALIAS = "kpatch-lab"
_SIZE = "2G"
# The tree and the disk that is made from it lie there side by side for a moment.
_SPACE = 3 * 1024**3
_IMAGE = re.compile(r"linux-image-([0-9]+\.[0-9]+\.[0-9][^ ,]*)")
_MEND = "look at the lines before this, then run again"

_PACKAGES = (
    "busybox-static",
    "dbus",
    "iproute2",
    "kmod",
    "openssh-server",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
    "udev",
)

# What a VM that lives for minutes doesn't need and that costs CPU at every boot under emulation.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-timesyncd.service",
    "systemd-pstore.service",
)

_NETWORK_UNIT = f"""[Unit]
Description=The lab's fixed address
DefaultDependencies=no
After=sysinit.target
Before=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/ip link set lo up
ExecStart=/bin/ip address add {GUEST_ADDRESS}/24 dev eth0
ExecStart=/bin/ip link set eth0 up

[Install]
WantedBy=multi-user.target
"""

_READY_UNIT = f"""[Unit]
Description=Tell the serial console that ssh answers
After=ssh.service lab-network.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "{READY_MARK}" > /dev/console'

[Install]
WantedBy=multi-user.target
"""

# Without PAM a session costs no logind round trip; a session is what every Ansible task opens.
_SSHD = "UseDNS no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nPrintMotd no\n"


@dataclass(frozen=True)
class Kernel:
    """One kernel of an image: what `uname -r` says, the version of its package, and what QEMU boots."""

    release: str
    version: str
    vmlinuz: str
    initrd: str


@dataclass(frozen=True)
class Image:
    """A published image directory."""

    path: Path
    kernels: dict[str, Kernel]

    @property
    def disk(self) -> Path:
        return self.path / "root.img"

    @property
    def key(self) -> Path:
        return self.path / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.path / "known_hosts"

    def boot(self, series: str, append: str = "") -> Boot:
        """What QEMU needs to boot the kernel of *series*."""
        kernel = self.kernel(series)
        return Boot(self.path / kernel.vmlinuz, self.path / kernel.initrd, append)

    def kernel(self, series: str) -> Kernel:
        """The kernel of *series*, or LabError with the ones that there are."""
        if series not in self.kernels:
            raise LabError(
                f"the image {self.path} has no kernel '{series}', only {', '.join(sorted(self.kernels))}; "
                "name one of these in lab_hosts, or add it to lab_kernels"
            )
        return self.kernels[series]


def open_image(path: Path) -> Image:
    """The image that was published at *path*."""
    record = read_json(path / "image.json")
    if record is None:
        raise LabError(f"{path} is not a lab image; make it with kpatch.fleet.lab_image")
    kernels = {series: Kernel(**fields) for series, fields in record["kernels"].items()}
    return Image(path, kernels)


def ensure(cache: Path, suite: str, packages: dict[str, str], build: bool = True) -> tuple[Image | None, bool]:
    """Return the image for *suite* with the kernel *packages* (by series) and whether it had to be built.

    With *build* false (check mode) nothing is made: an image that isn't there is (None, True).
    """
    archive = open_archive(cache, suite)
    versions = {package: archive.candidate(package) for package in packages.values()}
    path = cache / "images" / f"{suite}-{digest([_RECIPE, suite, packages, versions, _PACKAGES])}"
    if not (path / "image.json").exists():
        if not build:
            return None, True
        with locked(cache / "images" / ".lock"):
            # A second run waited at the lock while the first one built it.
            if not (path / "image.json").exists():
                _build(path, archive, packages)
                return open_image(path), True
    return open_image(path), False


def _build(path: Path, archive: Archive, packages: dict[str, str]) -> None:
    if os.geteuid() != 0:
        raise LabError("making the lab's image needs root (mmdebstrap and file ownership); run as root")
    need_space(path.parent, _SPACE, "the lab's image")
    with published(path) as work:
        root = work / "root"
        releases = {series: _release(archive, package) for series, package in packages.items()}
        _bootstrap(work, root, archive, list(releases.values()))
        _configure(root)
        _install_keys(work, root)
        kernels = {series: _extract_kernel(work, root, release) for series, release in releases.items()}
        _make_disk(work, root)
        shutil.rmtree(root)
        record = {"suite": archive.suite, "kernels": {series: asdict(kernel) for series, kernel in kernels.items()}}
        write_whole(work / "image.json", json.dumps(record, indent=2) + "\n")


def _bootstrap(work: Path, root: Path, archive: Archive, releases: list[str]) -> None:
    settings = work / "apt.conf"
    settings.write_text(archive.settings(), encoding="utf-8")
    settings.chmod(0o600)
    argv = [
        "mmdebstrap",
        "--variant=minbase",
        f"--aptopt={settings}",
        f"--include={','.join([*_PACKAGES, *(f'linux-image-{release}' for release in releases)])}",
        # The lab makes its own initrd: one that is only a fraction of the size to unpack under emulation.
        '--essential-hook=mkdir -p "$1/etc/initramfs-tools" "$1/etc/kernel/postinst.d"',
        '--essential-hook=ln -s /bin/true "$1/etc/kernel/postinst.d/initramfs-tools"',
        "--dpkgopt=force-confold",
        # How this machine reaches its mirrors is nobody else's business.
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/apt/sources.list"',
        archive.suite,
        str(root),
        "-",
    ]
    run(argv, _MEND, stdin=archive.sources())
    settings.unlink()


def _configure(root: Path) -> None:
    files = {
        "etc/hostname": "lab\n",
        "etc/hosts": "127.0.0.1 localhost\n",
        "etc/machine-id": "",
        "etc/ssh/sshd_config.d/lab.conf": _SSHD,
        "etc/systemd/system/lab-network.service": _NETWORK_UNIT,
        "etc/systemd/system/lab-ready.service": _READY_UNIT,
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    units = root / "etc/systemd/system"
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    for unit in ("lab-network.service", "lab-ready.service"):
        (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")
    for unit in _MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")


def _install_keys(work: Path, root: Path) -> None:
    """One key opens the VMs of an image, and its one host key proves that it is they who answer."""
    key = work / "id_ed25519"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kpatch.fleet lab", "-f", str(key)], _MEND)
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(f"{key}.pub", ssh / "authorized_keys")
    host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="utf-8")
    kind, public = host_key.split()[:2]
    (work / "known_hosts").write_text(f"{HOST_ALIAS} {kind} {public}\n", encoding="utf-8")


def _release(archive: Archive, package: str) -> str:
    """The release of the kernel that *package* is, or stands for as a metapackage."""
    if own := _IMAGE.match(package):
        return own.group(1)
    # Only the kernel itself is installed: bullseye-security lists a metapackage whose file is gone.
    depends = archive.depends(package)
    image = _IMAGE.search(depends)
    if image is None:
        raise LabError(f"'{package}' is no kernel and no kernel metapackage: it depends on '{depends}'")
    return image.group(1)


def _extract_kernel(work: Path, root: Path, release: str) -> Kernel:
    """Copy out the kernel, and make its initrd."""
    version = _dpkg(root, "${Version}", f"linux-image-{release}")
    kernel = Kernel(release, version, f"vmlinuz-{release}", f"initrd-{release}")
    places = (root / "boot" / kernel.vmlinuz, root / "usr/lib/modules" / release / "vmlinuz")
    shutil.copyfile(next((place for place in places if place.exists()), places[0]), work / kernel.vmlinuz)
    (work / kernel.initrd).write_bytes(initrd.build(root, release))
    return kernel


def _dpkg(root: Path, field: str, package: str) -> str:
    return run(["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", field, package], _MEND).strip()


def _make_disk(work: Path, root: Path) -> None:
    """Fill an ext4 image from the tree; the small journal is there because VMs are killed and panic in tests."""
    for name in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / name, ignore_errors=True)
    disk = str(work / "root.img")
    run(["mke2fs", "-q", "-t", "ext4", "-J", "size=8", "-d", str(root), disk, _SIZE], _MEND)
