"""vSphere: a host's maintenance mode, mirrored to vRealize, Aria or VCF Operations.

``maintenance`` reads events and decides, ``operations`` is the door to the suite-api, ``memory`` knows what was applied
last to which host, ``mirror`` ties them: the capability.
"""
