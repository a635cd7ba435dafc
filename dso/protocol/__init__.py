"""Messages between the processes of Cloud Mode: command line and agent, agent and provider plugins."""
