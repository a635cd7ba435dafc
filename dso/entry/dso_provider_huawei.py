"""Start of `dso-provider-huawei`."""

import sys

from dso.entry.daemon import without_certifi

if __name__ == "__main__":
    without_certifi()
    from dso.providers.huawei import HuaweiProvider
    from dso.providers.process import main

    main(HuaweiProvider, sys.argv)
