"""The flows, one per file: numbered steps that ask decisions and call ports."""
