"""Serving: a standard inference endpoint in front of instances that change under load.

Packages, from the ground up: `worker` (an instance's process, and the messages it is spoken to with),
`routing` (who serves which request), `instances` (their processes as the server sees them), `partition`
(slices), `endpoint` (the protocol towards applications), `control` (target and actual configuration, the
loop, the control port). `protocol` holds the stubs, `clients` the commands' own clients. An import only ever
points down.
"""
