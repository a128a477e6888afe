"""The Feast repo: every entity, view, source and service. `feast apply` imports each module of this folder."""
