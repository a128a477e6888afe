"""A small convolutional network that is trained here, on a catalogue's own pictures: no weights from a hub."""
