"""The paper's tables and figures: rows, budgets, drawings and the page of results."""
