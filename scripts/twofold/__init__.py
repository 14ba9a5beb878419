# SPDX-License-Identifier: BSD-2-Clause
"""What scripts/run and the booted tests share: machines, images, the console's records."""
