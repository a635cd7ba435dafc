"""Start of `dso-provider-azure`."""

import sys
import warnings

from dso.entry.daemon import without_certifi

if __name__ == "__main__":
    without_certifi()
    # requests misses a library that guesses encodings, which the frozen program has not.
    warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
    from dso.providers.azure import AzureProvider
    from dso.providers.process import main

    main(AzureProvider, sys.argv)
