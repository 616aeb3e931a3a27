"""vSphere: a host's maintenance mode, mirrored to vRealize, Aria or VCF Operations.

``maintenance`` reads events and decides, ``operations`` finds and marks hosts by calls of ``session``, ``resources``
reads the answers, ``applied`` stores the newest event of each host, and ``capability`` ties them together.
Only ``session`` calls Operations. The words intent and turn are those of docs/concepts.md; setting up: docs/vsphere.md.
"""
