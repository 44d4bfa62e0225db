"""Logs: where records become durable. A log decides nothing.

`interface` is all that the rest of the broker knows of one; `memory` keeps nothing.
"""
