"""Generated from proto/svid/wire/pb; never edited."""
