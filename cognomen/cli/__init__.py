"""The command `cognomen`: one module per noun."""
