"""Hyperparameter search for one optimizer. Only this package imports Optuna."""
