"""The admin API under ``/api/v1``: everything that the dashboard shows and does, for curl and programs too.

``operations.py`` is the one table of what there is; the OpenAPI document is made from it and from the models in the
``*_shapes.py`` files. One module for each page answers: overview, economics, decision, entries, transfers (export and
import), live, health. ``calls.py`` is what they have in common, ``gate.py`` who may come in.
"""
