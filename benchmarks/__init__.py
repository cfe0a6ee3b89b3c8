"""How fast and how large jaxte is, next to what else computes the same scores.

Run as ``python -m benchmarks COMMAND``. Every measurement is made in a process of its own, so that
neither memory nor compilations of one reach the next.
"""
