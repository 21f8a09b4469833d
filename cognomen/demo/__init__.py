"""The demo: three components of one agent, and the scene that runs them."""
