"""The session benchmark: learn from one period after another, and predict every next click of the following one."""
