"""Bytes to frames to messages, and back. Pure: no I/O, no event loop. Used by both ends of a connection."""
