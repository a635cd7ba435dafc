"""Start of `dso-provider-vault`."""

import sys

from dso.entry.daemon import survive_an_upgrade

if __name__ == "__main__":
    survive_an_upgrade()
    from dso.providers.hashicorp import HashicorpProvider
    from dso.providers.process import main

    main(HashicorpProvider, sys.argv)
