"""The only package that speaks to the outside: Kafka (Faust) and HTTP. Start at `streams/app.py`."""
