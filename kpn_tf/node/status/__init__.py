"""How a node is doing: a snapshot of its journal, as a page, as metrics, over HTTP."""
