"""Objects that keep state for several flows while the issuer runs; each module is a noun. The steps are in flows."""
