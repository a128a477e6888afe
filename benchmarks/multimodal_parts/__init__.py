"""What `alluvium bench multimodal` is made of."""
