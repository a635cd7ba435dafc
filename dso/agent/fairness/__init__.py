"""What keeps one user from taking the agent away from the others: budgets, rates, and turns. docs/decisions/0017.

Nothing here knows of HTTP or of secrets, and nothing here waits for another user. The server, the resolver and the
cache ask it; a request that goes beyond what its user may have ends with a BusyError.
"""
