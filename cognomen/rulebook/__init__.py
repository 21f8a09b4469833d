"""The operators' rules, how they match, and what can be proved of them: values and plain functions."""
