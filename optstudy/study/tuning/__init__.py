"""One optimizer's search: from a space to its best configuration. The only importer of Optuna."""
