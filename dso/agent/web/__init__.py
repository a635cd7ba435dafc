"""Parts of the agent's HTTP server: what a request and its answer are, and who may ask.

`dso.agent.server` puts them together; nothing here knows which endpoints there are.
"""
