"""The descriptor pool of our own messages, apart from the default one."""

from __future__ import annotations

from google.protobuf.descriptor_pool import DescriptorPool

__all__ = ["POOL"]

POOL: DescriptorPool = DescriptorPool()
"""Other packages (tritonclient among them) register messages of the same full names, `inference.*`, in
protobuf's default pool, which refuses a second definition; so our generated modules use this one."""
