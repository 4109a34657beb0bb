"""Tunes and compares SGD and Adam on MNIST, in seconds: the numbers mean nothing yet."""

from optstudy import Study

if __name__ == "__main__":  # the study's workers import this file too
    study = Study("first", preset="smoke", optimizers=["sgd", "adam"])
    found = study.tune()
    print(found["sgd"].best)
    table = study.train().to_pandas()
    print(table[["optimizer", "seeds", "test_accuracy"]])
