"""How long tests wait for what has to come. (Not in conftest.py: there are several, and which one an import finds is
a matter of the order of the tests.)"""

PATIENCE_S = 20.0
"""After how long a test that waits for something has failed."""
