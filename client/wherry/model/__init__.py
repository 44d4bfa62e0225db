"""What can be said: commands, replies, pushes, their fields and names. No bytes, no I/O.

Both ends speak these types; `wherry.wire` turns them into bytes and back.
"""
