"""Definitions of volumes: what they have to be like, who may say so, and how many there may be."""
