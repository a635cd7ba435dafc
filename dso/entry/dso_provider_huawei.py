"""Start of `dso-provider-huawei`."""

import sys

if __name__ == "__main__":
    from dso.providers.huawei import HuaweiProvider
    from dso.providers.process import main

    main(HuaweiProvider, sys.argv)
