"""What keeps plugins apart from the agent and from each other: docs/decisions/0018.

Root's agent runs each plugin as a system user of its type, without capabilities, and hands it copies of the files that
its settings name. `quarters` is what the rest of the agent knows of all this; an agent that is not root's has none.
"""
