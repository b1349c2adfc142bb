"""Training, evaluation, comparison and calibration of models. The service, the worker and inference never import it."""
