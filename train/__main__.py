"""List the experiments, or run the one that is named: python -m train NAME is python -m train.NAME."""

import sys

from keras_sae.__main__ import train

if __name__ == "__main__":
    train(sys.argv[1:])
