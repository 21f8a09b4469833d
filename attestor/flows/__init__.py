"""One file is one flow: numbered steps that ask decisions and call ports."""
