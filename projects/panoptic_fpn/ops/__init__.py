"""Fast twins of plain operators."""
