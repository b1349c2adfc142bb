"""From the files of a series to its volumes: which slices belong together, and on what grid. Decodes no pixels."""
