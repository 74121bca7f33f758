"""Published claims as short declarations: data, contenders, budgets, published values, and a verdict that can fail."""
