# SPDX-License-Identifier: ISC
"""What the functional tests share: namespaces, the daemon under test, its peers, and a look into /proc."""
