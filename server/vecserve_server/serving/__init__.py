"""Models in service, and the one way an item takes through them."""
