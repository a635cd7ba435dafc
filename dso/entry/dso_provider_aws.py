"""Start of `dso-provider-aws`."""

import os
import sys

from dso.entry.daemon import packed_data

if __name__ == "__main__":
    from dso.providers.aws import AwsProvider
    from dso.providers.aws_data import use_packed
    from dso.providers.process import main
    from dso.providers.proxies import spare_metadata

    spare_metadata(os.environ)
    data = packed_data()
    if data is not None:
        use_packed(data)
    main(AwsProvider, sys.argv)
