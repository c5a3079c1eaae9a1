"""How messages travel between peers."""
