"""Start of `dso-provider-vault`."""

import sys

from dso.entry.daemon import without_certifi

if __name__ == "__main__":
    without_certifi()
    from dso.providers.hashicorp import HashicorpProvider
    from dso.providers.process import main

    main(HashicorpProvider, sys.argv)
