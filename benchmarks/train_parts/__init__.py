"""What `alluvium bench train` is made of: the loops, equal loss, the GPU."""
