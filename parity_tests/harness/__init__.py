"""What proves that the two wings agree. Read declaration.py first, then budget.py."""
