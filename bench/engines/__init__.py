"""The same work in other stream engines, each as its own documentation advises; ``bench/peers.py`` runs them."""
