"""Start of `dso-provider-huawei`."""

import sys

from dso.entry.daemon import survive_an_upgrade

if __name__ == "__main__":
    survive_an_upgrade()
    from dso.providers.huawei import HuaweiProvider
    from dso.providers.process import main

    main(HuaweiProvider, sys.argv)
