"""Docker Secret Operator."""
