"""One process of `wherry worker`: what `wherry.tasks.serving` is, on the faster event loop."""

from wherry.tasks.serving import main
from wherry_broker.eventloop import loop_factory

if __name__ == "__main__":
    main(loop_factory())
