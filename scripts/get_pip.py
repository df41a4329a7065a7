# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for get-pip where nothing can be downloaded: fills a virtual environment from Python's bundled pip."""

from __future__ import annotations

import ensurepip
import runpy
import sys

NOT_FOR_PIP = ("--no-setuptools", "--no-wheel")

if __name__ == "__main__":
    ensurepip.bootstrap()
    sys.argv = ["pip", "install", *(word for word in sys.argv[1:] if word not in NOT_FOR_PIP)]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
