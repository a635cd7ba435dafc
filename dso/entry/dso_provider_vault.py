"""Start of `dso-provider-vault`."""

import sys

if __name__ == "__main__":
    from dso.providers.hashicorp import HashicorpProvider
    from dso.providers.process import main

    main(HashicorpProvider, sys.argv)
