# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller refuses to go on with."""

from __future__ import annotations


class FleetError(Exception):
    """The text names the thing and the mend; operators see it instead of a traceback."""
