# Copyright: kpatch.fleet contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Sphinx makes the site out of these pages and of the reference by antsibull-docs; scripts/docs calls it."""

from __future__ import annotations

project = "kpatch.fleet"
author = "kpatch.fleet contributors"
extensions = ["myst_parser", "sphinx_antsibull_ext"]
myst_heading_anchors = 4
# Blocks without a language are typed into a shell, or are pictures.
highlight_language = "none"
html_theme = "alabaster"
html_theme_options = {"description": "Live patches for a whole fleet", "page_width": "70rem"}
# The reference links to Ansible's own pages, which are not fetched.
nitpicky = False
suppress_warnings = ["ref.ref", "intersphinx.external"]
