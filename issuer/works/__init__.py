"""What several flows do inside a transaction: functions that read, decide and write in it, and never begin or end it."""
