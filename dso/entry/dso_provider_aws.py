"""Start of `dso-provider-aws`."""

import sys

from dso.providers.aws import AwsProvider
from dso.providers.process import main

if __name__ == "__main__":
    main(AwsProvider, sys.argv)
