"""How well a model does on cases with their truth: metrics of voxels and lesions, tables, complexity."""
