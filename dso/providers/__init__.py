"""The programs that speak to a backend each, started by the agent."""
