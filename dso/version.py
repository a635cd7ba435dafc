"""Who we are: what `docker-cli-plugin-metadata` and `version` report.

`VERSION` repeats the file VERSION at the top of the source tree, so that no file is read at
start-up; a test holds the two together.
"""

VERSION = "0.1.0"
VENDOR = "The DSO authors"
SHORT_DESCRIPTION = "Start Compose stacks with their secrets, without plaintext on disk"
URL = "https://github.com/docker-secret-operator/dso"
