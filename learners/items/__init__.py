"""What an item is described by beside its text: a picture and structured attributes, fused into one vector."""
