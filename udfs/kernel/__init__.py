"""How features are computed: the catalogue, the compiled kernel and the order of bars."""
