"""The only package that knows Feast: entities, views, decayed features, the ledger and the fast online path."""
