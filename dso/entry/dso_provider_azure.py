"""Start of `dso-provider-azure`."""

import sys

from dso.entry.daemon import survive_an_upgrade

if __name__ == "__main__":
    survive_an_upgrade()
    from dso.providers.azure import AzureProvider
    from dso.providers.process import main

    main(AzureProvider, sys.argv)
