"""What a project may have of the vault: asking the user for it, and the commands that grant it and take it away.

`gate` stands between the vault and every command that resolves references in Local Mode; `created` grants what is new
to the project it was made for. The grants themselves are kept by `dso.grants`.
"""
