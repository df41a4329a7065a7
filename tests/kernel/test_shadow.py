# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shadow variables, both the kernel's and the core's own. If this fails, a patch that needs them corrupts memory."""

from __future__ import annotations

import pytest
from host import Host


@pytest.mark.parametrize("module", ["kpt_shadow", "kpt_shadow_own"])
def test_they_are_found_shared_and_freed(host: Host, module: str) -> None:
    # The module loads if everything that it tried was as it should be.
    host.load(module)
    host.unload(module)
