"""Training-free detectors.

One file holds one method: a function from an [H, W] frame in sensor counts to an [H, W] float map in which targets are
large. ``METHODS`` states the facts of each; ``ClassicalBackend`` turns any of them into a backend, so that
``motes detect --model tophat`` runs the same path as a network. A new method is its file and one line of ``METHODS``.
"""

from motes.classical.methods import METHODS, ClassicalBackend, Method, classical_backend

__all__ = ["METHODS", "ClassicalBackend", "Method", "classical_backend"]
