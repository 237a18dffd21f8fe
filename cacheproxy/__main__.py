"""``python -m cacheproxy``: the same as the command ``cacheproxy``."""

from cacheproxy.cli import main

main()
