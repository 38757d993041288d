"""The network: layers, backbones, temporal parts, losses, and its export."""
