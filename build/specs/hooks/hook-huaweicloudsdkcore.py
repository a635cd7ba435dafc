"""It imports `six.moves` alone, and PyInstaller makes those modules up without `six`, which makes them."""

hiddenimports = ["six"]
