"""How values reach containers."""
