# SPDX-License-Identifier: ISC
"""A link between two namespaces that can be cut at either end."""

from . import netns

NEAR, FAR = "10.77.0.1", "10.77.0.2"


class Link:
    """Where nsproxy is, `near`, and where its peers are, `far`."""

    def __init__(self):
        self.near, self.far = netns.Namespace("near"), netns.Namespace("far")
        self.near.ip_batch([f"link add va type veth peer name vb netns {self.far.name}", f"addr add {NEAR}/24 dev va", "link set va up"])
        self.far.ip_batch([f"addr add {FAR}/24 dev vb", "link set vb up"])

    def set(self, end, state):
        {"near": self.near, "far": self.far}[end].ip_batch([f"link set {'va' if end == 'near' else 'vb'} {state}"])

    def relay(self, world, server, **keys):
        """A daemon with one service, from public to the far end."""
        lines = "".join(f" {key.replace('_', '-')} = {value}\n" for key, value in keys.items())
        return world.proxy("-w", "1", "-f", world.config(
            f'service link {{\n listen = {{"{world.public()}"}}\n connect = {{"{self.near.name}@{FAR}:{server.port}"}}\n{lines}}}\n'))

    def remove(self):
        self.near.remove()
        self.far.remove()
