"""The shells around the core: sessions (pure), connections, the pump and the listener. They move bytes and sleep."""
