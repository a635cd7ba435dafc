"""`docker dso allow --list`: every grant, and whether it counts."""

from __future__ import annotations

import os


def print_grants(output_format: str) -> int:
    """Print them as a table or as JSON: what is in grants.json, with `counts`, and `why` where it does not."""
    from dso.cli.grants.wording import one_line
    from dso.cli.output import note, print_json, print_table
    from dso.grants.coverage import weakness
    from dso.grants.store import Grants

    found = []
    for grant in Grants.load().list():
        weak = weakness(grant.directory, grant.directory, os.geteuid())
        found.append({**grant._asdict(), "counts": weak is None, "why": str(weak) if weak else ""})
    if output_format == "json":
        print_json(found)
        return 0
    rows = [
        (
            one_line(str(each["directory"])),
            ", ".join((*each["namespaces"], *each["secrets"])) or "-",
            "all of it" if each["configuration"] else "-",
            "yes" if each["counts"] else "no: " + one_line(str(each["why"])),
        )
        for each in found
    ]
    if rows:
        print_table(("directory", "may have", "dso.yaml", "counts"), rows)
    else:
        note("nothing is granted to any directory: `docker dso allow` grants, `docker dso up` asks")
    return 0
