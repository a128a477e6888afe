"""What `alluvium bench prequential` is made of: logs, the protocol, contenders, intervals and the report.

`log`, `protocol` and the modules that end in `_child` need NumPy alone, so that they also run in the virtual
environment of a peer.
"""
