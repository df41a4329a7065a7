# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes to sysfs, for the drivers that run in the booted kernel; it is sent along with them."""

from __future__ import annotations

import os
from pathlib import Path


def put(path: Path, value: str) -> None:
    """One write(2): a file object whose flush fails writes once more when it is closed."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, value.encode())
    finally:
        os.close(file)
