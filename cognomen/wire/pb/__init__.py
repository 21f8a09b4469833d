"""Generated from proto/cognomen/wire/pb; never edited."""
